import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.postgresql.util.PSQLException;

/** A storm of callers with the retries of docs/retry/Jdbc.java. README.md here says what is printed. */
public final class StormPgjdbc {
    private static final int CALLERS = 24;
    private static final int TURNS = 5;
    private static final Duration DEADLINE = Duration.ofSeconds(50);
    private static final Pattern ADVICE = Pattern.compile("retry_after_ms=(\\d+)");

    private final AtomicInteger retries = new AtomicInteger();
    private final AtomicInteger told = new AtomicInteger();
    private final AtomicInteger honoured = new AtomicInteger();
    private String sqlstate;
    private int triedAgain;

    private void retried(SQLException error, long pause) {
        retries.incrementAndGet();
        if (!(error instanceof PSQLException said) || said.getServerErrorMessage() == null) return;
        String detail = said.getServerErrorMessage().getDetail();
        Matcher advice = ADVICE.matcher(detail == null ? "" : detail);
        if (!advice.find()) return;
        told.incrementAndGet();
        if (Long.parseLong(advice.group(1)) == pause) honoured.incrementAndGet();
    }

    private static void serve(Jdbc caller, int number) throws Exception {
        for (int turn = 0; turn < TURNS; turn++) {
            int now = turn;
            caller.run(connection -> {
                try (PreparedStatement insert = connection.prepareStatement("insert into served values (?, ?)");
                     Statement sleep = connection.createStatement()) {
                    insert.setInt(1, number);
                    insert.setInt(2, now);
                    insert.executeUpdate();
                    return sleep.execute("select pg_sleep(0.03)");
                }
            }, DEADLINE, false);
        }
    }

    /** An error that no retry makes good. */
    private void refused(Jdbc caller) throws Exception {
        int before = retries.get();
        try {
            caller.run(connection -> {
                try (Statement statement = connection.createStatement()) {
                    return statement.execute("selec 1");
                }
            }, DEADLINE, true);
        } catch (SQLException error) {
            sqlstate = error.getSQLState();
        }
        triedAgain = retries.get() - before;
    }

    private Void one(String url, int number) throws Exception {
        Jdbc caller = new Jdbc(url, this::retried);
        serve(caller, number);
        caller.close();
        return null;
    }

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("PGDATABASE") + "?sslmode=disable&user=" + System.getenv("PGUSER") + "&password="
            + System.getenv("PGPASSWORD");
        StormPgjdbc storm = new StormPgjdbc();
        ExecutorService threads = Executors.newFixedThreadPool(CALLERS);
        List<Callable<Void>> callers = new ArrayList<>();
        for (int number = 0; number < CALLERS; number++) {
            int it = number;
            callers.add(() -> storm.one(url, it));
        }
        try {
            for (Future<Void> result : threads.invokeAll(callers)) result.get();
        } finally {
            threads.shutdown();
        }
        Jdbc alone = new Jdbc(url, storm::retried);
        storm.refused(alone);
        alone.close();
        System.out.println("{\"retries\":" + storm.retries + ",\"told\":" + storm.told + ",\"honoured\":" + storm.honoured
            + ",\"sqlstate\":\"" + storm.sqlstate + "\",\"tried_again\":" + storm.triedAgain + "}");
    }
}
