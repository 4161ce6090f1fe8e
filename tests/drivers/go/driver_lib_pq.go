// lib/pq, through database/sql.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/lib/pq"
)

const table = "matrix_lib_pq"

// quote writes a value for lib/pq's key=value connection strings.
func quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

func dsn(more ...string) string {
	wanted := []string{
		"host=" + quote(os.Getenv("PGHOST")), "port=" + quote(os.Getenv("PGPORT")), "user=" + quote(os.Getenv("PGUSER")),
		"dbname=" + quote(os.Getenv("PGDATABASE")), "sslmode=disable", "application_name='matrix lib/pq'",
	}
	if !cache {
		// One round trip for Parse to Sync, so that the unnamed statement never outlives it.
		wanted = append(wanted, "binary_parameters=yes")
	}
	return strings.Join(append(wanted, more...), " ")
}

// connect opens one connection, not a pool. Whoever calls it closes the pool behind it through the second result.
func connect(more ...string) (*sql.Conn, func(), error) {
	if len(more) == 0 {
		more = []string{"password=" + quote(os.Getenv("PGPASSWORD"))}
	}
	pool, err := sql.Open("postgres", dsn(more...))
	if err != nil {
		return nil, nil, err
	}
	conn, err := pool.Conn(context.Background())
	if err != nil {
		pool.Close()
		return nil, nil, err
	}
	return conn, func() { conn.Close(); pool.Close() }, nil
}

func password(more string) string { return "password=" + quote(os.Getenv("PGPASSWORD")) + " " + more }

type work func(ctx context.Context, conn *sql.Conn) (interface{}, error)

func connected(do work, more ...string) func() (interface{}, error) {
	return func() (interface{}, error) {
		conn, closeAll, err := connect(more...)
		if err != nil {
			return nil, err
		}
		defer closeAll()
		return do(context.Background(), conn)
	}
}

func withEmptyTable(do work) func() (interface{}, error) {
	return connected(func(ctx context.Context, conn *sql.Conn) (interface{}, error) {
		if _, err := conn.ExecContext(ctx, "delete from "+table); err != nil {
			return nil, err
		}
		return do(ctx, conn)
	})
}

// refusal is the server's error as the driver shows it; any other error fails the check.
func refusal(err error) (interface{}, error) {
	var refused *pq.Error
	if err == nil {
		return "no error", nil
	}
	if !errors.As(err, &refused) {
		return nil, err
	}
	return compact(map[string]string{
		"sqlstate": string(refused.Code), "severity": refused.Severity, "message": refused.Message, "detail": refused.Detail,
		"hint": refused.Hint, "position": refused.Position, "constraint": refused.Constraint, "where": refused.Where,
	}), nil
}

type querier interface {
	ExecContext(ctx context.Context, text string, arguments ...interface{}) (sql.Result, error)
	QueryContext(ctx context.Context, text string, arguments ...interface{}) (*sql.Rows, error)
}

// attempts runs each statement and collects what was refused.
func attempts(ctx context.Context, on querier, statements ...list) (list, error) {
	seen := list{}
	for _, statement := range statements {
		_, err := on.ExecContext(ctx, statement[0].(string), statement[1:]...)
		refused, err := refusal(err)
		if err != nil {
			return nil, err
		}
		seen = append(seen, refused)
	}
	return seen, nil
}

func do(ctx context.Context, on querier, statements ...string) error {
	for _, statement := range statements {
		if _, err := on.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// all is every row of every result set.
func all(ctx context.Context, on querier, text string, arguments ...interface{}) (list, error) {
	rows, err := on.QueryContext(ctx, text, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := list{}
	for {
		for rows.Next() {
			row, err := scan(rows)
			if err != nil {
				return nil, err
			}
			found = append(found, row)
		}
		if !rows.NextResultSet() {
			return found, rows.Err()
		}
	}
}

func scan(rows *sql.Rows) (list, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	row, targets := make(list, len(names)), make(list, len(names))
	for column := range row {
		targets[column] = &row[column]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	for column, value := range row {
		switch value := value.(type) {
		case []byte:
			row[column] = string(value)
		case float64:
			// JSON has no infinity.
			row[column] = fmt.Sprint(value)
		case time.Time:
			row[column] = value.UTC().Format(time.RFC3339Nano)
		}
	}
	return row, nil
}

func one(ctx context.Context, on querier, text string, arguments ...interface{}) (interface{}, error) {
	rows, err := all(ctx, on, text, arguments...)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("%d rows for %s", len(rows), text)
	}
	return rows[0].(list)[0], nil
}

// gather collects single values of several queries.
func gather(ctx context.Context, on querier, texts ...string) (list, error) {
	seen := list{}
	for _, text := range texts {
		value, err := one(ctx, on, text)
		if err != nil {
			return nil, err
		}
		seen = append(seen, value)
	}
	return seen, nil
}

func checkConnect(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	return all(ctx, conn, "select 1, current_user::text, current_database()::text")
}

func checkShow(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	seen := object{}
	for _, name := range shown {
		value, err := one(ctx, conn, "show "+name)
		if err != nil {
			return nil, err
		}
		seen[name] = value
	}
	return seen, nil
}

func checkStartupParameters(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	seen := list{}
	for round := 0; round < 3; round++ {
		values, err := gather(ctx, conn, "show TimeZone", "show IntervalStyle", "show statement_timeout", "show search_path")
		if err != nil {
			return nil, err
		}
		seen = append(seen, values)
	}
	return seen, nil
}

func checkSetFollows(ctx context.Context, client *sql.Conn) (interface{}, error) {
	other, closeAll, err := connect()
	if err != nil {
		return nil, err
	}
	defer closeAll()
	if err := do(ctx, client, "set TimeZone = 'Asia/Tokyo'", "set IntervalStyle = 'iso_8601'"); err != nil {
		return nil, err
	}
	if err := do(ctx, other, "set TimeZone = 'America/Lima'"); err != nil {
		return nil, err
	}
	seen := list{}
	for round := 0; round < 3; round++ {
		for _, each := range []*sql.Conn{client, other} {
			values, err := gather(ctx, each, "show TimeZone", "show IntervalStyle")
			if err != nil {
				return nil, err
			}
			seen = append(seen, values)
		}
	}
	return seen, nil
}

func checkWrongPassword() (interface{}, error) {
	_, closeAll, err := connect("password='not the password'")
	if err == nil {
		closeAll()
	}
	return refusal(err)
}

func checkSimpleQuery(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	return all(ctx, conn, "select 7 as seven, 'text' as text, null as nothing")
}

func checkEmptyQuery(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	if err := do(ctx, conn, "", ";"); err != nil {
		return nil, err
	}
	return one(ctx, conn, "select 1")
}

func checkTypes(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	if err := do(ctx, conn, "set TimeZone = 'UTC'"); err != nil {
		return nil, err
	}
	seen := list{}
	try := func(kind string, value interface{}) error {
		rows, err := all(ctx, conn, fmt.Sprintf("select $1::%s, ($1::%s)::text", kind, kind), value)
		seen = append(seen, list{kind, rows})
		return err
	}
	for _, sample := range samples {
		if err := try(sample[0], sample[1]); err != nil {
			return nil, fmt.Errorf("%s: %w", sample[0], err)
		}
	}
	typed := []struct {
		kind  string
		value interface{}
	}{
		{"bool", true}, {"bool", false}, {"bigint", int64(-9223372036854775808)}, {"float8", 0.1}, {"bytea", []byte{0, 1, 254, 255}},
		{"timestamptz", time.Date(2025, 3, 30, 1, 0, 0, 123456000, time.UTC)}, {"int[]", pq.Array([]int64{1, 2, 3})},
		{"text[]", pq.Array([]string{"a,b", `c"d`, ""})}, {"int", nil}, {"text", nil},
	}
	for _, sample := range typed {
		if err := try(sample.kind, sample.value); err != nil {
			return nil, fmt.Errorf("%s: %w", sample.kind, err)
		}
	}
	return bytesAsHex(seen), nil
}

// bytesAsHex keeps values that are not UTF-8 readable in JSON.
func bytesAsHex(seen list) list {
	for _, entry := range seen {
		for _, row := range entry.(list)[1].(list) {
			if text, ok := row.(list)[0].(string); ok && strings.ToValidUTF8(text, "") != text {
				row.(list)[0] = fmt.Sprintf("%x", text)
			}
		}
	}
	return seen
}

func checkLargeText(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	sent := strings.Repeat("grüße ", 150000)
	received, err := one(ctx, conn, "select $1::text", sent)
	if err != nil {
		return nil, err
	}
	return list{digest([]byte(received.(string))), received == sent}, nil
}

func checkRepeated(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	seen := list{}
	ask := func(n int) (interface{}, error) { return one(ctx, conn, "select $1::int * 2", n) }
	if cache {
		// database/sql has no cache of its own: a statement that the program prepares and keeps.
		statement, err := conn.PrepareContext(ctx, "select $1::int * 2")
		if err != nil {
			return nil, err
		}
		defer statement.Close()
		ask = func(n int) (value interface{}, err error) {
			err = statement.QueryRowContext(ctx, n).Scan(&value)
			return value, err
		}
	}
	for n := 0; n < 20; n++ {
		value, err := ask(n)
		if err != nil {
			return nil, err
		}
		seen = append(seen, value)
	}
	return seen, nil
}

func checkRows(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	rows, err := all(ctx, conn, "select g from generate_series(1, 100000) g")
	return list{len(rows), sum(rows)}, err
}

func sum(rows list) int64 {
	var total int64
	for _, row := range rows {
		total += row.(list)[0].(int64)
	}
	return total
}

func checkStreaming(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	if err := do(ctx, tx, "declare walk cursor for select g from generate_series(1, 20000) g"); err != nil {
		return nil, err
	}
	var total int64
	for {
		rows, err := all(ctx, tx, "fetch 1000 from walk")
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			break
		}
		total += sum(rows)
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	after, err := one(ctx, conn, "select 1")
	return list{total, after}, err
}

func checkTransactionCommit(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	for id, label := range []string{"kept", "kept too"} {
		if _, err := tx.ExecContext(ctx, "insert into "+table+" values ($1, $2)", id, label); err != nil {
			return nil, err
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	return all(ctx, conn, "select id, label from "+table+" order by id")
}

func checkTransactionRollback(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	if err := do(ctx, tx, "insert into "+table+" values (1, 'gone')"); err != nil {
		return nil, err
	}
	inside, err := gather(ctx, tx, "select count(*) from "+table, "show transaction_isolation")
	if err != nil {
		return nil, err
	}
	if err := tx.Rollback(); err != nil {
		return nil, err
	}
	outside, err := gather(ctx, conn, "select count(*) from "+table, "show transaction_isolation")
	return list{inside, outside}, err
}

func checkSavepoints(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	err = do(ctx, tx, "insert into "+table+" values (1, 'outer')", "savepoint first",
		"insert into "+table+" values (2, 'undone')", "rollback to first")
	if err != nil {
		return nil, err
	}
	refused, err := attempts(ctx, tx, list{"insert into " + table + " values ($1, 'twice')", 1})
	if err != nil {
		return nil, err
	}
	if err := do(ctx, tx, "rollback to first", "release first", "insert into "+table+" values (3, 'after')"); err != nil {
		return nil, err
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	rows, err := all(ctx, conn, "select id, label from "+table+" order by id")
	return list{refused, rows}, err
}

func checkErrors(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	if err := do(ctx, conn, "insert into "+table+" values (1, 'first')"); err != nil {
		return nil, err
	}
	own := "do $$ begin raise exception 'own' using errcode = 'P0123', hint = 'H', detail = 'D'; end $$"
	refused, err := attempts(ctx, conn, list{"selec 1"}, list{"selec $1", 1},
		list{"insert into " + table + " values ($1, $2)", 1, "again"}, list{"select 1 / $1::int", 0},
		list{"select * from no_such_table"}, list{"select $1::text::int", "not a number"}, list{own})
	if err != nil {
		return nil, err
	}
	after, err := one(ctx, conn, "select 1")
	return append(refused, after), err
}

func checkErrorInTransaction(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	if err := do(ctx, conn, "begin"); err != nil {
		return nil, err
	}
	refused, err := attempts(ctx, conn, list{"select 1/0"}, list{"select 1"})
	if err != nil {
		return nil, err
	}
	if err := do(ctx, conn, "rollback"); err != nil {
		return nil, err
	}
	after, err := one(ctx, conn, "select 1")
	return append(refused, after), err
}

func checkMultiStatement(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	return all(ctx, conn, "select 1; select 'two', 2; values (3), (4)")
}

func checkMultiStatementError(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	refused, err := attempts(ctx, conn, list{"insert into " + table + " values (1, 'undone'); select 1/0; select 2"})
	if err != nil {
		return nil, err
	}
	count, err := one(ctx, conn, "select count(*) from "+table)
	return append(refused, count), err
}

func noPipeline() (interface{}, error) { return nil, skip("has no pipeline") }

// copyRows sends rows with lib/pq's COPY, which must be inside a transaction.
func copyRows(ctx context.Context, conn *sql.Conn, rows []list) (err error) {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	statement, err := tx.PrepareContext(ctx, pq.CopyIn(table, "id", "label"))
	if err != nil {
		return err
	}
	for _, row := range rows {
		if _, err := statement.ExecContext(ctx, row...); err != nil {
			return err
		}
	}
	if _, err := statement.ExecContext(ctx); err != nil {
		return err
	}
	if err := statement.Close(); err != nil {
		return err
	}
	return tx.Commit()
}

func checkCopyIn(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	rows := []list{}
	for n := 0; n < 20000; n++ {
		var label interface{}
		if n%7 == 0 {
			label = "tab\tand newline\n"
		}
		rows = append(rows, list{n, label})
	}
	if err := copyRows(ctx, conn, rows); err != nil {
		return nil, err
	}
	return all(ctx, conn, "select count(*), count(label), sum(id), md5(string_agg(label, '' order by id)) from "+table)
}

func checkCopyInBadRow(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	refused, err := refusal(copyRows(ctx, conn, []list{{1, "good"}, {"bad", "bad"}}))
	if err != nil {
		return nil, err
	}
	count, err := one(ctx, conn, "select count(*) from "+table)
	return list{refused, count}, err
}

func checkNotice() (interface{}, error) {
	notices := list{}
	base, err := pq.NewConnector(dsn(password("")))
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(pq.ConnectorWithNoticeHandler(base, func(n *pq.Error) {
		notices = append(notices, list{n.Severity, string(n.Code), n.Message, n.Detail})
	}))
	defer pool.Close()
	pool.SetMaxOpenConns(1)
	err = do(context.Background(), pool, "do $$ begin raise notice 'one'; raise warning 'two' using detail = 'more'; end $$",
		"do $$ begin for i in 1..50 loop raise notice 'number %', i; end loop; end $$")
	return notices, err
}

// untilRunning waits until the server says that it runs a statement like this.
func untilRunning(like string) error {
	_, err := connected(func(ctx context.Context, conn *sql.Conn) (interface{}, error) {
		text := "select count(*) from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like $1"
		for tries := 0; tries < 750; tries++ {
			count, err := one(ctx, conn, text, like)
			if err != nil || count.(int64) > 0 {
				return nil, err
			}
			time.Sleep(20 * time.Millisecond)
		}
		return nil, errors.New("never seen to run: " + like)
	})()
	return err
}

// checkCancel uses a pool: lib/pq gives up a connection whose query it has cancelled, and opens another.
func checkCancel() (interface{}, error) {
	pool, err := sql.Open("postgres", dsn(password("")))
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	seen := list{}
	for round := 0; round < 3; round++ {
		ctx, cancel := context.WithCancel(context.Background())
		trouble := make(chan error, 1)
		go func() {
			trouble <- untilRunning("select pg_sleep(50) /* lib/pq */%")
			cancel()
		}()
		_, err := pool.ExecContext(ctx, "select pg_sleep(50) /* lib/pq */")
		if waited := <-trouble; waited != nil {
			return nil, waited
		}
		refused, err := refusal(err)
		if err != nil {
			return nil, err
		}
		after, err := one(context.Background(), pool, "select 'usable'")
		if err != nil {
			return nil, err
		}
		seen = append(seen, refused, after)
	}
	return seen, nil
}

func checkStatementTimeout(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	if err := do(ctx, conn, "begin", "set local statement_timeout = '50ms'"); err != nil {
		return nil, err
	}
	refused, err := attempts(ctx, conn, list{"select pg_sleep(50)"})
	if err != nil {
		return nil, err
	}
	if err := do(ctx, conn, "rollback"); err != nil {
		return nil, err
	}
	after, err := gather(ctx, conn, "select 'usable'", "show statement_timeout")
	return append(refused, after...), err
}

func worker(number int) (interface{}, error) {
	return connected(func(ctx context.Context, conn *sql.Conn) (interface{}, error) {
		low := 1000 + number*10
		for turn := 0; turn < 10; turn++ {
			tx, err := conn.BeginTx(ctx, nil)
			if err != nil {
				return nil, err
			}
			defer tx.Rollback()
			if _, err := tx.ExecContext(ctx, "update "+table+" set amount = amount + 1 where id = $1", turn); err != nil {
				return nil, err
			}
			if _, err := tx.ExecContext(ctx, "insert into "+table+" values ($1, $2)", low+turn, "mine"); err != nil {
				return nil, err
			}
			if err := tx.Commit(); err != nil {
				return nil, err
			}
		}
		return one(ctx, conn, "select count(*) from "+table+" where id between $1 and $2", low, low+9)
	})()
}

func checkParallel(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	if err := do(ctx, conn, "insert into "+table+" select g, 'counter', 0 from generate_series(0, 9) g"); err != nil {
		return nil, err
	}
	counts, failures := make(list, 20), make([]error, 20)
	var waiting sync.WaitGroup
	for number := range counts {
		waiting.Add(1)
		go func(number int) {
			defer waiting.Done()
			counts[number], failures[number] = worker(number)
		}(number)
	}
	waiting.Wait()
	for _, failure := range failures {
		if failure != nil {
			return nil, failure
		}
	}
	totals, err := all(ctx, conn, "select count(*), sum(amount) from "+table)
	return list{counts, totals}, err
}

func checkBigValue(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	values, err := gather(ctx, conn, "select repeat('0123456789', 1048576)", "select convert_to(repeat('xyz', 3000000), 'UTF8')",
		"select 'after'")
	if err != nil {
		return nil, err
	}
	return list{digest([]byte(values[0].(string))), digest([]byte(values[1].(string))), values[2]}, nil
}

func checkBigRows(ctx context.Context, conn *sql.Conn) (interface{}, error) {
	rows, err := all(ctx, conn, series)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	for _, row := range rows {
		text.WriteString(row.(list)[1].(string))
	}
	return list{len(rows), digest([]byte(text.String()))}, nil
}

func main() {
	once := func(statements ...string) error {
		_, err := connected(func(ctx context.Context, conn *sql.Conn) (interface{}, error) {
			return nil, do(ctx, conn, statements...)
		})()
		return err
	}
	must(once("drop table if exists "+table, "create table "+table+" (id int primary key, label text, amount int)"))
	// Not DateStyle: lib/pq sends one of its own, before or after the program's.
	startup := "TimeZone='Asia/Tokyo' IntervalStyle='iso_8601' statement_timeout='54321' search_path='pg_catalog,public'"
	passed := performAll([]check{
		{"connect", connected(checkConnect)},
		{"parameters", func() (interface{}, error) { return nil, skip("does not show what the server reports") }},
		{"show", connected(checkShow)},
		{"startup_parameters", connected(checkStartupParameters, password(startup))},
		{"set_follows", connected(checkSetFollows)},
		{"wrong_password", checkWrongPassword},
		{"simple_query", connected(checkSimpleQuery)},
		{"empty_query", connected(checkEmptyQuery)},
		{"types", connected(checkTypes)},
		{"large_text", connected(checkLargeText)},
		{"repeated", connected(checkRepeated)},
		{"rows", connected(checkRows)},
		{"streaming", connected(checkStreaming)},
		{"transaction_commit", withEmptyTable(checkTransactionCommit)},
		{"transaction_rollback", withEmptyTable(checkTransactionRollback)},
		{"savepoints", withEmptyTable(checkSavepoints)},
		{"errors", withEmptyTable(checkErrors)},
		{"error_in_transaction", connected(checkErrorInTransaction)},
		{"multi_statement", connected(checkMultiStatement)},
		{"multi_statement_error", withEmptyTable(checkMultiStatementError)},
		{"pipeline", noPipeline},
		{"pipeline_error", noPipeline},
		{"copy_in", withEmptyTable(checkCopyIn)},
		{"copy_out", func() (interface{}, error) { return nil, skip("has no COPY TO") }},
		{"copy_in_bad_row", withEmptyTable(checkCopyInBadRow)},
		{"copy_in_aborted", func() (interface{}, error) { return nil, skip("cannot give up a COPY") }},
		{"notice", checkNotice},
		{"cancel", checkCancel},
		{"statement_timeout", connected(checkStatementTimeout)},
		{"parallel", withEmptyTable(checkParallel)},
		{"big_value", connected(checkBigValue)},
		{"big_rows", connected(checkBigRows)},
	})
	must(once("drop table " + table))
	if !passed {
		os.Exit(1)
	}
}
