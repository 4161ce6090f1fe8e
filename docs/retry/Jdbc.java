import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.time.Duration;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.BiConsumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.postgresql.util.PSQLException;

/** Retries for pgjdbc behind pgcorral: keep one of these per thread, and hand it transactions. */
public final class Jdbc {
    /** Refused before anything has taken effect, by pgcorral or by PostgreSQL itself; 08001 is also pgjdbc's own. */
    private static final Set<String> REFUSED = Set.of("53300", "53400", "57P03", "08001");
    /** Pauses without advice: at most this long at first, twice as long each time, and never longer than the last. */
    private static final long FIRST_PAUSE_MS = 100;
    private static final long LONGEST_PAUSE_MS = 5000;
    private static final Pattern ADVICE = Pattern.compile("\\bretry_after_ms=(\\d+)");

    /** Without it pgjdbc runs a query at the end of its login, and closes the connection if that is refused. */
    private static final Properties PROPERTIES = new Properties();

    static {
        PROPERTIES.setProperty("assumeMinServerVersion", "12");
    }

    /** A transaction. */
    public interface Work<T> { T run(Connection connection) throws SQLException; }

    private final String url;
    private final BiConsumer<SQLException, Long> onRetry;
    private Connection connection;

    public Jdbc(String url, BiConsumer<SQLException, Long> onRetry) {
        this.url = url;
        this.onRetry = onRetry;
    }

    /**
     * Runs work in a transaction. Gives up after the deadline, with the last error. A transaction that was lost together
     * with its server is tried again only if it is idempotent: it may have been committed.
     */
    public <T> T run(Work<T> work, Duration deadline, boolean idempotent) throws SQLException, InterruptedException {
        long giveUp = System.nanoTime() + deadline.toNanos();
        for (int attempt = 0; ; attempt++) {
            try {
                return attempt(work);
            } catch (SQLException error) {
                long pause = pauseAfter(error, attempt, idempotent);
                if (pause < 0 || System.nanoTime() + pause * 1_000_000 >= giveUp) throw error;
                onRetry.accept(error, pause);
                Thread.sleep(pause);
            }
        }
    }

    /** Closes the connection. */
    public void close() throws SQLException {
        if (connection != null) connection.close();
    }

    private <T> T attempt(Work<T> work) throws SQLException {
        // Not for an error of the transaction: only a connection that is gone is opened again.
        if (connection == null || connection.isClosed()) {
            connection = DriverManager.getConnection(url, PROPERTIES);
            connection.setAutoCommit(false);
        }
        try {
            T result = work.run(connection);
            connection.commit();
            return result;
        } catch (SQLException error) {
            try {
                // Nothing is sent if no transaction was begun.
                if (!connection.isClosed()) connection.rollback();
            } catch (SQLException another) {
                error.addSuppressed(another);
            }
            throw error;
        }
    }

    /** Milliseconds until the next attempt; negative if there must not be one. */
    private static long pauseAfter(SQLException error, int attempt, boolean idempotent) {
        if (error instanceof PSQLException said && said.getServerErrorMessage() != null) {
            String detail = said.getServerErrorMessage().getDetail();
            Matcher told = ADVICE.matcher(detail == null ? "" : detail);
            if (told.find()) return Long.parseLong(told.group(1));
        }
        // 08006 is also what pgjdbc says of a connection that broke.
        boolean lost = "08006".equals(error.getSQLState());
        if (!REFUSED.contains(error.getSQLState()) && !(lost && idempotent)) return -1;
        return ThreadLocalRandom.current().nextLong(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << Math.min(attempt, 10)) + 1);
    }
}
