// pgx v4, by its own interface: simple protocol without a cache, prepared statements with one.
package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

const table = "matrix_pgx"

// connect takes the address and password from the PG* variables, as pgx does for an empty connection string.
func connect(settings ...func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig("")
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "matrix pgx"
	if !cache {
		config.PreferSimpleProtocol = true
		config.BuildStatementCache = nil
	}
	for _, set := range settings {
		set(config)
	}
	return pgx.ConnectConfig(context.Background(), config)
}

type work func(ctx context.Context, conn *pgx.Conn) (interface{}, error)

func connected(do work, settings ...func(*pgx.ConnConfig)) func() (interface{}, error) {
	return func() (interface{}, error) {
		conn, err := connect(settings...)
		if err != nil {
			return nil, err
		}
		ctx := context.Background()
		defer conn.Close(ctx)
		return do(ctx, conn)
	}
}

func withEmptyTable(do work) func() (interface{}, error) {
	return connected(func(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
		if _, err := conn.Exec(ctx, "delete from "+table); err != nil {
			return nil, err
		}
		return do(ctx, conn)
	})
}

// refusal is the server's error as the driver shows it; any other error fails the check.
func refusal(err error) (interface{}, error) {
	var refused *pgconn.PgError
	if err == nil {
		return "no error", nil
	}
	if !errors.As(err, &refused) {
		return nil, err
	}
	return compact(map[string]string{
		"sqlstate": refused.Code, "severity": refused.Severity, "message": refused.Message, "detail": refused.Detail,
		"hint": refused.Hint, "position": strconv.Itoa(int(refused.Position)), "constraint": refused.ConstraintName,
		"where": refused.Where,
	}), nil
}

type querier interface {
	Exec(ctx context.Context, text string, arguments ...interface{}) (pgconn.CommandTag, error)
	Query(ctx context.Context, text string, arguments ...interface{}) (pgx.Rows, error)
}

// attempts runs each statement and collects what was refused.
func attempts(ctx context.Context, on querier, statements ...list) (list, error) {
	seen := list{}
	for _, statement := range statements {
		_, err := on.Exec(ctx, statement[0].(string), statement[1:]...)
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
		if _, err := on.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// collect reads all rows as Go values of the driver's choice.
func collect(rows pgx.Rows, err error) (list, error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := list{}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return nil, err
		}
		found = append(found, list(values))
	}
	return found, rows.Err()
}

func all(ctx context.Context, on querier, text string, arguments ...interface{}) (list, error) {
	return collect(on.Query(ctx, text, arguments...))
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

func checkConnect(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	return all(ctx, conn, "select 1, current_user::text, current_database()::text")
}

func checkParameters(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	seen := object{}
	for _, name := range reported {
		seen[name] = conn.PgConn().ParameterStatus(name)
	}
	return seen, nil
}

func checkShow(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
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

func startup(config *pgx.ConnConfig) {
	config.RuntimeParams["TimeZone"] = "Asia/Tokyo"
	config.RuntimeParams["DateStyle"] = "German"
	config.RuntimeParams["statement_timeout"] = "54321"
	config.RuntimeParams["search_path"] = "pg_catalog,public"
}

func checkStartupParameters(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	seen := list{}
	for round := 0; round < 3; round++ {
		values, err := gather(ctx, conn, "show TimeZone", "show DateStyle", "show statement_timeout", "show search_path")
		if err != nil {
			return nil, err
		}
		seen = append(seen, values)
	}
	return seen, nil
}

func checkSetFollows(ctx context.Context, client *pgx.Conn) (interface{}, error) {
	other, err := connect()
	if err != nil {
		return nil, err
	}
	defer other.Close(ctx)
	if err := do(ctx, client, "set TimeZone = 'Asia/Tokyo'", "set IntervalStyle = 'iso_8601'"); err != nil {
		return nil, err
	}
	if err := do(ctx, other, "set TimeZone = 'America/Lima'"); err != nil {
		return nil, err
	}
	seen := list{}
	for round := 0; round < 3; round++ {
		for _, each := range []*pgx.Conn{client, other} {
			values, err := gather(ctx, each, "show TimeZone", "show IntervalStyle")
			if err != nil {
				return nil, err
			}
			seen = append(seen, append(values, each.PgConn().ParameterStatus("TimeZone")))
		}
	}
	return seen, nil
}

func checkWrongPassword() (interface{}, error) {
	conn, err := connect(func(config *pgx.ConnConfig) { config.Password = "not the password" })
	if err == nil {
		conn.Close(context.Background())
	}
	return refusal(err)
}

func checkSimpleQuery(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	results, err := conn.PgConn().Exec(ctx, "select 7 as seven, 'text' as text, null as nothing").ReadAll()
	return readable(results), err
}

// readable is what a query of several statements gave: command tag and rows as text.
func readable(results []*pgconn.Result) list {
	seen := list{}
	for _, result := range results {
		rows := list{}
		for _, values := range result.Rows {
			row := list{}
			for _, value := range values {
				row = append(row, string(value))
			}
			rows = append(rows, row)
		}
		seen = append(seen, list{string(result.CommandTag), rows})
	}
	return seen
}

func checkEmptyQuery(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	if err := do(ctx, conn, "", ";"); err != nil {
		return nil, err
	}
	return one(ctx, conn, "select 1")
}

func checkTypes(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	if err := do(ctx, conn, "set TimeZone = 'UTC'"); err != nil {
		return nil, err
	}
	seen := list{}
	for _, sample := range samples {
		row, err := roundTrip(ctx, conn, sample[0], sample[1])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sample[0], err)
		}
		seen = append(seen, row)
	}
	typed := []struct {
		kind  string
		value interface{}
	}{
		{"bool", true}, {"bool", false}, {"bigint", int64(9223372036854775807)}, {"int", int32(7)}, {"float8", 0.1},
		{"bytea", []byte{0, 1, 254, 255}}, {"timestamptz", time.Date(2025, 3, 30, 1, 0, 0, 123456000, time.UTC)},
		{"date", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)}, {"int", nil}, {"text", nil},
	}
	for _, sample := range typed {
		row, err := roundTrip(ctx, conn, sample.kind, sample.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sample.kind, err)
		}
		seen = append(seen, row)
	}
	return seen, nil
}

// roundTrip shows the value as the server sent it, in the format that the driver asked for, and as text.
func roundTrip(ctx context.Context, conn *pgx.Conn, kind string, value interface{}) (list, error) {
	rows, err := conn.Query(ctx, fmt.Sprintf("select $1::%s, ($1::%s)::text", kind, kind), value)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	row := list{kind}
	for rows.Next() {
		values := rows.RawValues()
		row = append(row, rows.FieldDescriptions()[0].Format, hex.EncodeToString(values[0]), values[0] == nil, string(values[1]))
	}
	return row, rows.Err()
}

func checkLargeText(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	sent := strings.Repeat("grüße ", 150000)
	received, err := one(ctx, conn, "select $1::text", sent)
	if err != nil {
		return nil, err
	}
	return list{digest([]byte(received.(string))), received == sent}, nil
}

func checkRepeated(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	seen := list{}
	for n := 0; n < 20; n++ {
		value, err := one(ctx, conn, "select $1::int * 2", n)
		if err != nil {
			return nil, err
		}
		seen = append(seen, value)
	}
	return seen, nil
}

func checkRows(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	rows, err := all(ctx, conn, "select g from generate_series(1, 100000) g")
	return list{len(rows), sum(rows)}, err
}

func sum(rows list) int64 {
	var total int64
	for _, row := range rows {
		total += int64(row.(list)[0].(int32))
	}
	return total
}

func checkStreaming(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)
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
	if err := tx.Commit(ctx); err != nil {
		return nil, err
	}
	after, err := one(ctx, conn, "select 1")
	return list{total, after}, err
}

func checkTransactionCommit(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	err := conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		for id, label := range []string{"kept", "kept too"} {
			if _, err := tx.Exec(ctx, "insert into "+table+" values ($1, $2)", id, label); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all(ctx, conn, "select id, label from "+table+" order by id")
}

func checkTransactionRollback(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.Serializable})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx)
	if err := do(ctx, tx, "insert into "+table+" values (1, 'gone')"); err != nil {
		return nil, err
	}
	inside, err := gather(ctx, tx, "select count(*) from "+table, "show transaction_isolation")
	if err != nil {
		return nil, err
	}
	if err := tx.Rollback(ctx); err != nil {
		return nil, err
	}
	outside, err := gather(ctx, conn, "select count(*) from "+table, "show transaction_isolation")
	return list{inside, outside}, err
}

func checkSavepoints(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	var failure error
	err := conn.BeginFunc(ctx, func(tx pgx.Tx) error {
		if err := do(ctx, tx, "insert into "+table+" values (1, 'outer')"); err != nil {
			return err
		}
		failure = tx.BeginFunc(ctx, func(inner pgx.Tx) error {
			_, err := inner.Exec(ctx, "insert into "+table+" values ($1, 'twice')", 1)
			return err
		})
		undone := errors.New("undone")
		err := tx.BeginFunc(ctx, func(inner pgx.Tx) error {
			if err := do(ctx, inner, "insert into "+table+" values (2, 'undone')"); err != nil {
				return err
			}
			return undone
		})
		if err != undone {
			return err
		}
		return do(ctx, tx, "insert into "+table+" values (3, 'after')")
	})
	if err != nil {
		return nil, err
	}
	refused, err := refusal(failure)
	if err != nil {
		return nil, err
	}
	rows, err := all(ctx, conn, "select id, label from "+table+" order by id")
	return list{refused, rows}, err
}

func checkErrors(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
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

func checkErrorInTransaction(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	if err := do(ctx, conn, "begin"); err != nil {
		return nil, err
	}
	refused, err := attempts(ctx, conn, list{"select 1/0"}, list{"select 1"})
	if err != nil {
		return nil, err
	}
	inside := string(conn.PgConn().TxStatus())
	if err := do(ctx, conn, "rollback"); err != nil {
		return nil, err
	}
	after, err := one(ctx, conn, "select 1")
	return append(refused, inside, string(conn.PgConn().TxStatus()), after), err
}

func checkMultiStatement(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	results, err := conn.PgConn().Exec(ctx, "select 1; select 'two', 2; values (3), (4)").ReadAll()
	return readable(results), err
}

func checkMultiStatementError(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	text := "insert into " + table + " values (1, 'undone'); select 1/0; select 2"
	results, err := conn.PgConn().Exec(ctx, text).ReadAll()
	refused, err := refusal(err)
	if err != nil {
		return nil, err
	}
	count, err := one(ctx, conn, "select count(*) from "+table)
	return list{readable(results[:1]), refused, count}, err
}

// checkPipeline sends batches: many Parse to Execute before one Sync, or one simple query of many statements.
func checkPipeline(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	batch := &pgx.Batch{}
	for n := 0; n < 50; n++ {
		batch.Queue("select $1::int + 1", n)
	}
	results := conn.SendBatch(ctx, batch)
	seen := list{}
	for n := 0; n < 50; n++ {
		rows, err := collect(results.Query())
		if err != nil {
			return nil, err
		}
		seen = append(seen, rows[0])
	}
	if err := results.Close(); err != nil {
		return nil, err
	}
	after, err := one(ctx, conn, "select 1")
	return append(seen, after), err
}

func checkPipelineError(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	batch := &pgx.Batch{}
	batch.Queue("insert into "+table+" values ($1, $2)", 1, "undone with its batch")
	batch.Queue("select 1 / $1::int", 0)
	batch.Queue("select 'never runs'")
	results := conn.SendBatch(ctx, batch)
	seen := list{}
	for n := 0; n < 3; n++ {
		_, err := results.Exec()
		refused, err := refusal(err)
		if err != nil {
			return nil, err
		}
		seen = append(seen, refused)
	}
	results.Close()
	count, err := one(ctx, conn, "select count(*) from "+table)
	return append(seen, count), err
}

func checkCopyIn(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	rows := [][]interface{}{}
	for n := 0; n < 20000; n++ {
		var label interface{}
		if n%7 == 0 {
			label = "tab\tand newline\n"
		}
		rows = append(rows, []interface{}{n, label})
	}
	binary, err := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "label"}, pgx.CopyFromRows(rows))
	if err != nil {
		return nil, err
	}
	lines := strings.NewReader("20000,one\n20001,two\n")
	text, err := conn.PgConn().CopyFrom(ctx, lines, "copy "+table+" (id, label) from stdin (format csv)")
	if err != nil {
		return nil, err
	}
	summary, err := all(ctx, conn, "select count(*), count(label), sum(id)::bigint, md5(string_agg(label, '' order by id)) from "+table)
	return list{binary, string(text), summary}, err
}

func checkCopyOut(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	seen := list{}
	for _, format := range []string{"text", "binary"} {
		var received bytes.Buffer
		query := "copy (select g, 'row ' || g from generate_series(1, 50000) g) to stdout (format " + format + ")"
		tag, err := conn.PgConn().CopyTo(ctx, &received, query)
		if err != nil {
			return nil, err
		}
		seen = append(seen, string(tag), digest(received.Bytes()))
	}
	after, err := one(ctx, conn, "select 1")
	return append(seen, after), err
}

func checkCopyInBadRow(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	lines := strings.NewReader("1\tgood\nbad\tbad\n" + strings.Repeat("2\tnever read\n", 20000))
	_, err := conn.PgConn().CopyFrom(ctx, lines, "copy "+table+" (id, label) from stdin")
	refused, err := refusal(err)
	if err != nil {
		return nil, err
	}
	count, err := one(ctx, conn, "select count(*) from "+table)
	return list{refused, count}, err
}

// mindChanger is a source that fails after its first row.
type mindChanger struct{ rows int }

func (source *mindChanger) Next() bool { source.rows++; return source.rows < 3 }
func (source *mindChanger) Err() error { return nil }
func (source *mindChanger) Values() ([]interface{}, error) {
	if source.rows == 2 {
		return nil, errors.New("changed my mind")
	}
	return []interface{}{1, "good"}, nil
}

func checkCopyInAborted(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	_, failure := conn.CopyFrom(ctx, pgx.Identifier{table}, []string{"id", "label"}, &mindChanger{})
	refused, err := refusal(failure)
	if err != nil {
		return nil, err
	}
	count, err := one(ctx, conn, "select count(*) from "+table)
	return list{refused, count}, err
}

func checkNotice() (interface{}, error) {
	notices := list{}
	listen := func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
			notices = append(notices, list{n.Severity, n.Code, n.Message, n.Detail})
		}
	}
	_, err := connected(func(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
		return nil, do(ctx, conn, "do $$ begin raise notice 'one'; raise warning 'two' using detail = 'more'; end $$",
			"do $$ begin for i in 1..50 loop raise notice 'number %', i; end loop; end $$")
	}, listen)()
	return notices, err
}

// untilRunning waits until the server says that it runs a statement like this.
func untilRunning(like string) error {
	_, err := connected(func(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
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

func checkCancel(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	seen := list{}
	for round := 0; round < 3; round++ {
		trouble := make(chan error, 1)
		go func() {
			if err := untilRunning("select pg_sleep(50) /* pgx */%"); err != nil {
				trouble <- err
				return
			}
			trouble <- conn.PgConn().CancelRequest(ctx)
		}()
		refused, err := attempts(ctx, conn, list{"select pg_sleep(50) /* pgx */"})
		if err != nil {
			return nil, err
		}
		if err := <-trouble; err != nil {
			return nil, err
		}
		after, err := one(ctx, conn, "select 'usable'")
		if err != nil {
			return nil, err
		}
		seen = append(seen, refused, after)
	}
	return seen, nil
}

func checkStatementTimeout(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
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
	return connected(func(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
		low := 1000 + number*10
		for turn := 0; turn < 10; turn++ {
			err := conn.BeginFunc(ctx, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "update "+table+" set amount = amount + 1 where id = $1", turn); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, "insert into "+table+" values ($1, $2)", low+turn, "mine")
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		return one(ctx, conn, "select count(*) from "+table+" where id between $1 and $2", low, low+9)
	})()
}

func checkParallel(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
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

func checkBigValue(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
	values, err := gather(ctx, conn, "select repeat('0123456789', 1048576)", "select convert_to(repeat('xyz', 3000000), 'UTF8')",
		"select 'after'")
	if err != nil {
		return nil, err
	}
	return list{digest([]byte(values[0].(string))), digest(values[1].([]byte)), values[2]}, nil
}

func checkBigRows(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
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
		_, err := connected(func(ctx context.Context, conn *pgx.Conn) (interface{}, error) {
			return nil, do(ctx, conn, statements...)
		})()
		return err
	}
	must(once("drop table if exists "+table, "create table "+table+" (id int primary key, label text, amount int)"))
	passed := performAll([]check{
		{"connect", connected(checkConnect)},
		{"parameters", connected(checkParameters)},
		{"show", connected(checkShow)},
		{"startup_parameters", connected(checkStartupParameters, startup)},
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
		{"pipeline", connected(checkPipeline)},
		{"pipeline_error", withEmptyTable(checkPipelineError)},
		{"copy_in", withEmptyTable(checkCopyIn)},
		{"copy_out", connected(checkCopyOut)},
		{"copy_in_bad_row", withEmptyTable(checkCopyInBadRow)},
		{"copy_in_aborted", withEmptyTable(checkCopyInAborted)},
		{"notice", checkNotice},
		{"cancel", connected(checkCancel)},
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
