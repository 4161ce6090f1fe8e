import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.ds.PGPoolingDataSource;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/**
 * pgjdbc with prepareThreshold=1: a PreparedStatement has a name at the server from its first execution on. The checks are
 * those of scenario.py; statements have `?` for their parameters.
 */
public final class DefaultPgjdbc {
    static final String TABLE = "default_pgjdbc";
    static final int CLIENTS = 20;
    static final String[] ZONES = {"Asia/Tokyo", "America/Lima", "Europe/Warsaw", "UTC", "Australia/Sydney"};
    static final String INSERT = "insert into " + TABLE + " values (?, ?, ?, ?, ?::jsonb, ?, ?, ?, ?, ?::" + TABLE + "_mood)";
    static final String SHOW = "select current_setting('application_name'), current_setting('TimeZone'),"
        + " current_setting('statement_timeout'), current_setting('search_path')";

    /** Work within a transaction, and work of a client. */
    interface Work<T> { T run(Connection connection) throws Exception; }
    interface Once { Object run(Client client, int turn) throws Exception; }
    interface Fail { Object run(Connection connection, Row row, Row again) throws Exception; }
    interface Between { void run() throws Exception; }

    /** A function instance: connects once, then runs invocations, each one transaction, with a pause between two. */
    static final class Client {
        final int number;
        Connection connection;
        Client(int number) { this.number = number; }
    }

    /** A value of every type; some are null. */
    record Row(long id, int client, String label, BigDecimal amount, String data, String[] tags, OffsetDateTime seen,
               boolean flag, Double ratio, String mood) {
        static Row of(int number, int turn) {
            return new Row(rowId(number, turn), number, "client " + number + ", turn " + turn,
                new BigDecimal(number * 100 + turn + ".25"), "{\"turn\": " + turn + ", \"list\": [1, null, \"ü\"]}",
                new String[] {"t" + turn, "a,b", "c\"d", ""}, moment(turn), turn % 2 == 0,
                turn % 3 == 0 ? turn / 8.0 : null, new String[] {"calm", "wild"}[turn % 2]);
        }

        Object[] values() { return new Object[] {id, client, label, amount, data, tags, seen, flag, ratio, mood}; }
    }

    static long rowId(int number, int row) { return number * 10_000L + row; }

    static OffsetDateTime moment(int turn) {
        return OffsetDateTime.of(2025, 3, 30, 0, 59, 59, 123456000, ZoneOffset.UTC).plusHours(turn);
    }

    // The library's ordinary style.

    static final String URL = "jdbc:postgresql://" + env("PGHOST") + ":" + env("PGPORT") + "/" + env("PGDATABASE")
        + "?sslmode=disable&prepareThreshold=1";

    static String env(String name) { return System.getenv(name); }

    static Connection connect() throws SQLException {
        Connection connection = DriverManager.getConnection(URL, env("PGUSER"), env("PGPASSWORD"));
        connection.setAutoCommit(false);
        return connection;
    }

    static <T> T transaction(Connection connection, Work<T> work) throws Exception {
        try {
            T result = work.run(connection);
            connection.commit();
            return result;
        } catch (Exception error) {
            connection.rollback();
            throw error;
        }
    }

    static PreparedStatement bind(Connection connection, PreparedStatement statement, Object... values) throws SQLException {
        for (int at = 0; at < values.length; at++) {
            Object value = values[at] instanceof String[] texts ? connection.createArrayOf("text", texts) : values[at];
            statement.setObject(at + 1, value);
        }
        return statement;
    }

    /** The rows of one statement; without values it may be anything. */
    static List<Object> rows(Connection connection, String text, Object... values) throws SQLException {
        if (values.length == 0) {
            try (Statement statement = connection.createStatement()) {
                return statement.execute(text) ? all(statement.getResultSet()) : List.of();
            }
        }
        try (PreparedStatement statement = bind(connection, connection.prepareStatement(text), values)) {
            return all(statement.executeQuery());
        }
    }

    static int update(Connection connection, String text, Object... values) throws SQLException {
        try (PreparedStatement statement = bind(connection, connection.prepareStatement(text), values)) {
            return statement.executeUpdate();
        }
    }

    static List<Object> all(ResultSet result) throws SQLException {
        List<Object> found = new ArrayList<>();
        while (result.next()) {
            List<Object> row = new ArrayList<>();
            for (int column = 1; column <= result.getMetaData().getColumnCount(); column++) {
                String type = result.getMetaData().getColumnTypeName(column);
                Object value = type.equals("timestamptz") ? result.getObject(column, OffsetDateTime.class) : result.getObject(column);
                row.add(value instanceof Array array ? Arrays.asList((Object[]) array.getArray()) : value);
            }
            found.add(row);
        }
        return found;
    }

    static Object refusal(Callable<?> call) throws Exception {
        try {
            call.call();
        } catch (PSQLException error) {
            ServerErrorMessage message = error.getServerErrorMessage();
            if (message == null) throw error;
            return Arrays.asList(message.getSQLState(), message.getConstraint(), message.getMessage());
        }
        throw new IllegalStateException("no error");
    }

    static Object work(Connection connection, int number, int turn) throws Exception {
        return transaction(connection, within -> {
            List<Object> seen = new ArrayList<>();
            update(within, INSERT, Row.of(number, turn).values());
            seen.add(rows(within, "select label, amount from " + TABLE + " where id = ?", rowId(number, turn)));
            seen.add(update(within, "update " + TABLE + " set amount = amount + ? where client = ?", 1.5, number));
            seen.add(rows(within, "select count(*), sum(amount) from " + TABLE + " where client = ?", number));
            if (turn % 3 == 0) {
                seen.add(rows(within, "select id from " + TABLE + " where client = ? order by seen desc limit ?", number, 2));
            }
            return seen;
        });
    }

    static Object autocommit(Connection connection, int number, int turn) throws Exception {
        connection.setAutoCommit(true);
        try {
            long id = rowId(number, turn);
            return List.of(update(connection, "update " + TABLE + " set flag = not flag where id = ?", id),
                rows(connection, "select label, flag from " + TABLE + " where id = ?", id),
                rows(connection, "select now() is not null"), connection.isValid(20));
        } finally {
            connection.setAutoCommit(false);
        }
    }

    static Object types(Connection connection, int number, int turn) throws Exception {
        return transaction(connection, within -> {
            update(within, INSERT, Row.of(number, turn).values());
            Array moods = within.createArrayOf(TABLE + "_mood", new String[] {"calm", "wild"});
            String text = "select count(*) from " + TABLE + " where client = ? and mood = any(?) and seen = ? and tags @> ?";
            return List.of(rows(within, "select * from " + TABLE + " where id = ?", rowId(number, turn)),
                rows(within, text, number, moods, moment(turn), new String[] {"t" + turn}));
        });
    }

    static Object insertBoth(Connection connection, Row first, Row second) throws Exception {
        return transaction(connection, within ->
            update(within, INSERT, first.values()) + update(within, INSERT, second.values()));
    }

    static Object uniqueViolation(Connection connection, Row row, Row again) throws Exception {
        Object failure = refusal(() -> insertBoth(connection, row, row));
        insertBoth(connection, row, again);
        return failure;
    }

    static Object savepointError(Connection connection, Row row, Row again) throws Exception {
        return transaction(connection, within -> {
            update(within, INSERT, row.values());
            Savepoint savepoint = within.setSavepoint();
            Object failure = refusal(() -> update(within, INSERT, row.values()));
            within.rollback(savepoint);
            update(within, INSERT, again.values());
            return failure;
        });
    }

    /** The level is the session's: `SET SESSION CHARACTERISTICS`. */
    static Object isolation(Connection connection) throws Exception {
        List<Object> seen = new ArrayList<>();
        for (boolean strict : new boolean[] {true, false}) {
            connection.setTransactionIsolation(
                strict ? Connection.TRANSACTION_SERIALIZABLE : Connection.TRANSACTION_READ_COMMITTED);
            connection.setReadOnly(strict);
            for (int time = 0; time < 2; time++) {
                seen.add(transaction(connection, within -> List.of(rows(within, "show transaction_isolation"),
                    rows(within, "show transaction_read_only"), within.getTransactionIsolation())));
                Thread.sleep(3);
            }
        }
        return seen;
    }

    static Object batch(Connection connection, List<Row> items) throws Exception {
        return transaction(connection, within -> {
            try (PreparedStatement insert = within.prepareStatement(INSERT);
                 PreparedStatement returning = within.prepareStatement(
                     "update " + TABLE + " set label = ? where id = ?", new String[] {"id"})) {
                for (Row row : items) {
                    bind(within, insert, row.values()).addBatch();
                    bind(within, returning, row.label + "!", row.id).addBatch();
                }
                int[] inserted = insert.executeBatch();
                int[] changed = returning.executeBatch();
                return List.of(Arrays.stream(inserted).sum(), Arrays.stream(changed).sum(),
                    all(returning.getGeneratedKeys()).size());
            }
        });
    }

    /** A portal that is read in portions. */
    static Object cursor(Connection connection) throws Exception {
        return transaction(connection, within -> {
            try (PreparedStatement statement = within.prepareStatement("select g from generate_series(1, ?) g")) {
                statement.setFetchSize(100);
                statement.setInt(1, 1000);
                long sum = 0;
                try (ResultSet result = statement.executeQuery()) {
                    while (result.next()) sum += result.getInt(1);
                }
                // Closed half way.
                try (ResultSet result = statement.executeQuery()) {
                    for (int row = 0; row < 250; row++) result.next();
                    return List.of(sum, result.getInt(1));
                }
            }
        });
    }

    @SuppressWarnings("deprecation")
    static PGPoolingDataSource pool() throws SQLException {
        PGPoolingDataSource pool = new PGPoolingDataSource();
        pool.setDataSourceName(TABLE);
        pool.setURL(URL);
        pool.setUser(env("PGUSER"));
        pool.setPassword(env("PGPASSWORD"));
        pool.setMaxConnections(4);
        pool.setInitialConnections(4);
        return pool;
    }

    static Object listen(Connection connection, String channel, Between notify) throws Exception {
        connection.setAutoCommit(true);
        rows(connection, "listen " + channel);
        notify.run();
        List<Object> got = new ArrayList<>();
        for (int tries = 0; tries < 40 && got.size() < 2; tries++) {
            PGNotification[] notes = connection.unwrap(PGConnection.class).getNotifications(500);
            for (PGNotification note : notes == null ? new PGNotification[0] : notes) got.add(note.getParameter());
        }
        rows(connection, "unlisten " + channel);
        return List.of(got, rows(connection, "select 'usable'"));
    }

    // The clients.

    final List<Client> clients = IntStream.range(0, CLIENTS).mapToObj(Client::new).collect(Collectors.toList());
    final Client extra = new Client(CLIENTS);
    final ExecutorService threads = Executors.newFixedThreadPool(CLIENTS);

    List<Object> together(List<Client> those, Once once) throws Exception {
        List<Future<Object>> underWay = new ArrayList<>();
        for (Client client : those) underWay.add(threads.submit(() -> once.run(client, 0)));
        List<Object> seen = new ArrayList<>();
        Exception failure = null;
        for (Future<Object> each : underWay) {
            try {
                seen.add(each.get());
            } catch (ExecutionException error) {
                failure = error.getCause() instanceof Exception cause ? cause : error;
            }
        }
        if (failure != null) throw failure;
        return seen;
    }

    List<Object> all(Once once) throws Exception { return together(clients, once); }

    /** Between two invocations. Of another length for each, so that clients overtake each other. */
    static void pause(int number, int turn) throws InterruptedException { Thread.sleep((number * 7 + turn * 13) % 11 * 3L); }

    List<Object> turns(int count, Once once) throws Exception {
        return all((client, none) -> {
            List<Object> seen = new ArrayList<>();
            for (int turn = 0; turn < count; turn++) {
                seen.add(once.run(client, turn));
                pause(client.number, turn);
            }
            return seen;
        });
    }

    static List<Object> statement(Client client, String text, Object... values) throws Exception {
        return transaction(client.connection, within -> rows(within, text, values));
    }

    static void setAll(Client client, String... texts) throws Exception {
        transaction(client.connection, within -> {
            for (String text : texts) rows(within, text);
            return null;
        });
    }

    static void setAlone(Client client, String... texts) throws Exception {
        client.connection.setAutoCommit(true);
        for (String text : texts) rows(client.connection, text);
        client.connection.setAutoCommit(false);
    }

    interface Set { void run(Client client, String... texts) throws Exception; }

    /** A transaction of each of three other clients: whatever stays on a server connection has other company now. */
    void others(String text) throws Exception { together(clients.subList(1, 4), (client, none) -> statement(client, text)); }

    void company() throws Exception { others("select count(*) >= 0 from " + TABLE); }

    static Object open(Client client, int none) throws SQLException {
        client.connection = connect();
        return null;
    }

    static Object shut(Client client, int none) throws SQLException {
        client.connection.close();
        return null;
    }

    /** Gives a client that has just connected; what it leaves behind goes with it. */
    Object withExtra(Callable<Object> work) throws Exception {
        // The one before has left a moment ago, and may still be on its way out.
        Thread.sleep(100);
        open(extra, 0);
        try {
            return work.call();
        } finally {
            shut(extra, 0);
        }
    }

    record Step(Client client, String text) {}

    Object script(Between between, Step... steps) throws Exception {
        return withExtra(() -> {
            List<Object> seen = new ArrayList<>();
            for (Step step : steps) {
                seen.add(statement(step.client, step.text));
                between.run();
            }
            return seen;
        });
    }

    Object script(String... texts) throws Exception {
        return script(this::company, Arrays.stream(texts).map(text -> new Step(extra, text)).toArray(Step[]::new));
    }

    void execute(String... texts) throws Exception {
        withExtra(() -> {
            for (String text : texts) statement(extra, text);
            return null;
        });
    }

    void clear() throws Exception {
        execute("drop table if exists " + TABLE, "drop type if exists " + TABLE + "_mood",
            "drop sequence if exists " + TABLE + "_seq");
    }

    void prepare() throws Exception {
        clear();
        execute("create type " + TABLE + "_mood as enum ('calm', 'wild')", "create sequence " + TABLE + "_seq",
            "create table " + TABLE + " (id bigint primary key, client int not null, label text, amount numeric(12, 2),"
                + " data jsonb, tags text[], seen timestamptz, flag bool, ratio float8, mood " + TABLE + "_mood)");
    }

    // The checks.

    Object failingTwice(int first, Fail fail) throws Exception {
        return turns(3, (client, turn) -> {
            int low = first + 2 * turn;
            Object failure = fail.run(client.connection, Row.of(client.number, low), Row.of(client.number, low + 1));
            String text = "select id, label from " + TABLE + " where client = ? and id >= ? order by id";
            return List.of(failure, statement(client, text, client.number, rowId(client.number, low)));
        });
    }

    /** As many different statements; a client runs some of them, and each client begins with another. */
    Object preparedReuse() throws Exception {
        return turns(8, (client, turn) -> transaction(client.connection, within -> {
            List<Object> seen = new ArrayList<>();
            for (int place = 0; place < 5; place++) {
                int number = (client.number * 5 + (place + turn) % 5 * 7) % 24;
                seen.addAll(rows(within, "select ?::int + " + number + ", 'statement " + number + "'", turn));
            }
            return seen;
        }));
    }

    Object batches() throws Exception {
        return turns(2, (client, turn) -> {
            int low = 400 + 20 * turn;
            Object done = batch(client.connection,
                IntStream.range(low, low + 20).mapToObj(row -> Row.of(client.number, row)).collect(Collectors.toList()));
            String text = "select count(*), sum(amount) from " + TABLE + " where client = ? and id >= ?";
            return List.of(done, statement(client, text, client.number, rowId(client.number, low)));
        });
    }

    Object sessionSettings() throws Exception {
        return all((client, none) -> {
            int number = client.number;
            Set set = number / 2 % 2 == 0 ? DefaultPgjdbc::setAll : DefaultPgjdbc::setAlone;
            set.run(client, "set application_name = 'client " + number + "'",
                "set timezone = '" + ZONES[number % ZONES.length] + "'",
                "set statement_timeout = '" + (20000 + number) + "ms'",
                "set search_path = " + new String[] {"public, pg_catalog", "pg_catalog, public"}[number % 2]);
            List<Object> seen = new ArrayList<>();
            for (int turn = 0; turn < 4; turn++) {
                seen.add(statement(client, SHOW));
                pause(number, turn);
            }
            seen.add(statement(client, "select set_config('application_name', 'again " + number + "', false)"));
            pause(number, 4);
            seen.add(statement(client, SHOW));
            return seen;
        });
    }

    @SuppressWarnings("serial")
    static final class Undo extends Exception {}

    Object settingsUndone() throws Exception {
        String show = "select current_setting('statement_timeout'), current_setting('TimeZone'), current_setting('lock_timeout')";
        return turns(2, (client, turn) -> {
            setAll(client, "set local statement_timeout = '25s'", "set local timezone = 'Asia/Tokyo'");
            pause(client.number, turn);
            List<Object> seen = new ArrayList<>(statement(client, show));
            try {
                transaction(client.connection, within -> {
                    rows(within, "set timezone = 'Asia/Tokyo'");
                    rows(within, "set lock_timeout = '26s'");
                    throw new Undo();
                });
            } catch (Undo undone) {
                pause(client.number, turn + 1);
            }
            seen.addAll(statement(client, show));
            setAll(client, "savepoint s", "set lock_timeout = '27s'", "rollback to savepoint s", "release savepoint s");
            pause(client.number, turn + 2);
            seen.addAll(statement(client, show));
            return seen;
        });
    }

    /** Back to what the client asked for when it logged in. */
    Object settingsReset() throws Exception {
        String[][] resets = {
            {"reset application_name", "set timezone to default", "reset statement_timeout", "reset search_path"},
            {"reset all"}};
        return turns(4, (client, turn) -> {
            Set set = turn >= 2 ? DefaultPgjdbc::setAlone : DefaultPgjdbc::setAll;
            set.run(client, "set application_name = 'to be reset'", "set timezone = 'Asia/Tokyo'",
                "set statement_timeout = '28s'", "set search_path = pg_catalog, public");
            pause(client.number, turn);
            set.run(client, resets[turn % 2]);
            pause(client.number, turn + 1);
            return statement(client, SHOW + ", current_setting('extra_float_digits')");
        });
    }

    @SuppressWarnings("deprecation") // There is no other pool in the driver itself.
    Object poolCheckout() throws Exception {
        PGPoolingDataSource pool = pool();
        try {
            return turns(3, (client, turn) -> {
                try (Connection connection = pool.getConnection()) {
                    return rows(connection, "select count(*) from " + TABLE + " where client = ?", client.number);
                }
            });
        } finally {
            pool.close();
        }
    }

    Object listenNotify() throws Exception {
        String channel = TABLE + "_channel";
        return withExtra(() -> listen(extra.connection, channel, () -> {
            company();
            for (String payload : new String[] {"one", "two"}) {
                statement(clients.get(0), "select pg_notify('" + channel + "', '" + payload + "')::text");
            }
            company();
        }));
    }

    Object advisoryLock() throws Exception {
        int key = TABLE.chars().sum();
        Client other = clients.get(0);
        return script(this::company, new Step(extra, "select pg_advisory_lock(" + key + ")::text"),
            new Step(other, "select pg_try_advisory_xact_lock(" + key + ")"),
            new Step(extra, "select count(*) from pg_locks where locktype = 'advisory' and objid = " + key
                + " and pid = pg_backend_pid()"),
            new Step(extra, "select pg_advisory_unlock(" + key + ")"), new Step(other, "select pg_try_advisory_xact_lock(" + key + ")"));
    }

    /** Asked for in the transaction that drew the number, and again in later ones. */
    Object sequenceValue() throws Exception {
        String name = "'" + TABLE + "_seq'";
        return script(() -> others("select nextval(" + name + ")"), new Step(extra, "select setval(" + name + ", 1000)"),
            new Step(extra, "select nextval(" + name + "), currval(" + name + ")"), new Step(extra, "select currval(" + name + ")"),
            new Step(extra, "select lastval()"));
    }

    Object reconnect() throws Exception {
        all(DefaultPgjdbc::shut);
        all(DefaultPgjdbc::open);
        return turns(3, (client, turn) -> work(client.connection, client.number, 500 + turn));
    }

    /** What a new client finds: nothing of what others did. */
    Object noLeaks() throws Exception {
        all(DefaultPgjdbc::shut);
        all(DefaultPgjdbc::open);
        return all((client, none) -> {
            List<Object> seen = new ArrayList<>();
            for (String text : new String[] {
                SHOW, "select current_setting('lock_timeout'), current_setting('transaction_isolation')",
                "select count(*) from pg_listening_channels()",
                "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
                "select count(*) from pg_cursors where is_holdable",
                "select count(*) from pg_class where relpersistence = 't' and pg_table_is_visible(oid)",
                "select count(*) from pg_prepared_statements where from_sql"}) {
                seen.addAll(statement(client, text));
            }
            return seen;
        });
    }

    boolean perform(String name, Callable<Object> check) {
        Map<String, Object> line = new HashMap<>(Map.of("check", name));
        boolean passed = true;
        try {
            line.put("result", check.call());
        } catch (Exception error) {
            error.printStackTrace();
            line.put("failed", error.toString());
            passed = false;
        }
        System.out.println(json(line));
        System.out.flush();
        return passed;
    }

    static String json(Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) return String.valueOf(value);
        if (value instanceof List<?> list) {
            return list.stream().map(DefaultPgjdbc::json).collect(Collectors.joining(",", "[", "]"));
        }
        if (value instanceof Map<?, ?> map) {
            return map.entrySet().stream().map(entry -> json(entry.getKey()) + ":" + json(entry.getValue()))
                .collect(Collectors.joining(",", "{", "}"));
        }
        StringBuilder text = new StringBuilder("\"");
        for (char letter : value.toString().toCharArray()) {
            if (letter < ' ' || letter > '~' || letter == '"' || letter == '\\') {
                text.append(String.format("\\u%04x", (int) letter));
            } else {
                text.append(letter);
            }
        }
        return text.append('"').toString();
    }

    boolean performAll() {
        boolean passed = perform("connect", () -> {
            all(DefaultPgjdbc::open);
            return all((client, none) -> statement(client, "select 1, current_user::text, current_database()::text"));
        });
        passed &= perform("transactions", () -> turns(12, (client, turn) -> work(client.connection, client.number, turn)));
        passed &= perform("autocommit", () -> turns(4, (client, turn) -> autocommit(client.connection, client.number, turn)));
        passed &= perform("types", () -> turns(4, (client, turn) -> types(client.connection, client.number, 100 + turn)));
        passed &= perform("unique_violation", () -> failingTwice(200, DefaultPgjdbc::uniqueViolation));
        passed &= perform("savepoint_error", () -> failingTwice(300, DefaultPgjdbc::savepointError));
        passed &= perform("prepared_reuse", this::preparedReuse);
        passed &= perform("isolation", () -> turns(3, (client, turn) -> isolation(client.connection)));
        passed &= perform("batch", this::batches);
        passed &= perform("cursor", () -> turns(2, (client, turn) -> cursor(client.connection)));
        passed &= perform("session_settings", this::sessionSettings);
        passed &= perform("settings_undone", this::settingsUndone);
        passed &= perform("settings_reset", this::settingsReset);
        passed &= perform("pool_checkout", this::poolCheckout);
        passed &= perform("listen_notify", this::listenNotify);
        passed &= perform("temp_table", () -> script("create temporary table scratch (n int)",
            "insert into scratch values (1), (2), (3)", "select sum(n) from scratch",
            "insert into scratch select n + 3 from scratch returning n", "select sum(n) from scratch", "drop table scratch",
            "select to_regclass('scratch')::text"));
        passed &= perform("advisory_lock", this::advisoryLock);
        passed &= perform("hold_cursor", () -> script(
            "declare held cursor with hold for select g from generate_series(1, 10) g", "fetch 3 from held",
            "fetch 4 from held", "close held", "select count(*) from pg_cursors where name = 'held'"));
        passed &= perform("sequence_value", this::sequenceValue);
        passed &= perform("sql_prepare", () -> script("prepare doubled (int) as select $1 * 2", "execute doubled (4)",
            "execute doubled (5)", "deallocate doubled",
            "select count(*) from pg_prepared_statements where name = 'doubled'"));
        passed &= perform("reconnect", this::reconnect);
        passed &= perform("no_leaks", this::noLeaks);
        return passed;
    }

    public static void main(String[] arguments) throws Exception {
        DefaultPgjdbc matrix = new DefaultPgjdbc();
        matrix.prepare();
        boolean passed = matrix.performAll();
        matrix.all(DefaultPgjdbc::shut);
        matrix.clear();
        System.exit(passed ? 0 : 1);
    }
}
