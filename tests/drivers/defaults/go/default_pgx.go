// pgx v4 as it comes, by its own interface: it prepares every statement by a name of its own and keeps it. With pgxpool.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const table = "default_pgx"

const insert = "insert into " + table + " (" + columns + ") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"

var background = context.Background()

type pgxV4 struct{}

func (pgxV4) table() string { return table }

// connect takes everything from the environment.
func (pgxV4) connect(int) session { return try(pgx.Connect(background, "")) }

func (pgxV4) close(s session) { ensure(s.(*pgx.Conn).Close(background)) }

func arguments(r row) []interface{} {
	return []interface{}{r.id, r.client, r.label, r.amount, r.data, r.tags, r.seen, r.flag, r.ratio, r.mood}
}

type querier interface {
	Query(ctx context.Context, text string, arguments ...interface{}) (pgx.Rows, error)
	Exec(ctx context.Context, text string, arguments ...interface{}) (pgconn.CommandTag, error)
}

func all(on querier, text string, arguments ...interface{}) list {
	rows := try(on.Query(background, text, arguments...))
	defer rows.Close()
	found := list{}
	for rows.Next() {
		row := try(rows.Values())
		for column, value := range row {
			switch value := value.(type) {
			case pgtype.Numeric:
				var number float64
				ensure(value.AssignTo(&number))
				row[column] = number
			case pgtype.TextArray:
				var texts []string
				ensure(value.AssignTo(&texts))
				row[column] = texts
			case time.Time:
				row[column] = value.UTC().Format(time.RFC3339Nano)
			}
		}
		found = append(found, row)
	}
	ensure(rows.Err())
	return found
}

func changed(tag pgconn.CommandTag, err error) int64 {
	ensure(err)
	return tag.RowsAffected()
}

func refusal(err error) interface{} {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		panic(fault{fmt.Errorf("not refused by the server: %v", err)})
	}
	return list{refused.Code, refused.ConstraintName, refused.Message}
}

func inTransaction(s session, options pgx.TxOptions, work func(tx pgx.Tx) error) error {
	return s.(*pgx.Conn).BeginTxFunc(background, options, work)
}

func (pgxV4) transaction(s session, work func(run run) error) error {
	return inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error {
		return work(func(text string, values ...interface{}) list { return all(tx, text, values...) })
	})
}

func (pgxV4) alone(s session, text string) { try(s.(*pgx.Conn).Exec(background, text)) }

func (pgxV4) work(s session, number, turn int) interface{} {
	seen := list{}
	ensure(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error {
		try(tx.Exec(background, insert, arguments(newRow(number, turn))...))
		seen = append(seen, all(tx, "select label, amount from "+table+" where id = $1", rowID(number, turn)))
		text := "update " + table + " set amount = amount + $1 where client = $2"
		seen = append(seen, changed(tx.Exec(background, text, 1.5, number)))
		var count int
		var sum float64
		row := tx.QueryRow(background, "select count(*), sum(amount) from "+table+" where client = $1", number)
		ensure(row.Scan(&count, &sum))
		seen = append(seen, count, sum)
		if turn%3 == 0 {
			text := "select id from " + table + " where client = $1 order by seen desc limit $2"
			seen = append(seen, all(tx, text, number, 2))
		}
		return nil
	}))
	return seen
}

func (pgxV4) autocommit(s session, number, turn int) interface{} {
	conn, id := s.(*pgx.Conn), rowID(number, turn)
	return list{
		changed(conn.Exec(background, "update "+table+" set flag = not flag where id = $1", id)),
		all(conn, "select label, flag from "+table+" where id = $1", id), all(conn, "select now() is not null"),
	}
}

func (pgxV4) types(s session, number, turn int) interface{} {
	var seen list
	ensure(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error {
		try(tx.Exec(background, insert, arguments(newRow(number, turn))...))
		text := "select count(*) from " + table + " where client = $1 and mood::text = any($2) and seen = $3 and tags @> $4"
		seen = list{
			all(tx, "select * from "+table+" where id = $1", rowID(number, turn)),
			all(tx, text, number, []string{"calm", "wild"}, moment(turn), newRow(number, turn).tags[:1]),
		}
		return nil
	}))
	return seen
}

func inserting(on pgx.Tx, items ...row) error {
	for _, item := range items {
		if _, err := on.Exec(background, insert, arguments(item)...); err != nil {
			return err
		}
	}
	return nil
}

func (pgxV4) uniqueViolation(s session, item, again row) interface{} {
	failure := refusal(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error { return inserting(tx, item, item) }))
	ensure(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error { return inserting(tx, item, again) }))
	return failure
}

func (pgxV4) savepointError(s session, item, again row) interface{} {
	var failure interface{}
	ensure(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error {
		ensure(inserting(tx, item))
		failure = refusal(tx.BeginFunc(background, func(tx pgx.Tx) error { return inserting(tx, item) }))
		return inserting(tx, again)
	}))
	return failure
}

// reuse leaves it to the statement cache.
func (pgxV4) reuse(s session, texts []string, value int) interface{} {
	seen := list{}
	ensure(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error {
		for _, text := range texts {
			seen = append(seen, all(tx, text, value))
		}
		return nil
	}))
	return seen
}

func (pgxV4) isolation(s session) interface{} {
	seen := list{}
	for _, options := range []pgx.TxOptions{{IsoLevel: pgx.Serializable, AccessMode: pgx.ReadOnly}, {}} {
		ensure(inTransaction(s, options, func(tx pgx.Tx) error {
			seen = append(seen, all(tx, "show transaction_isolation"), all(tx, "show transaction_read_only"))
			return nil
		}))
	}
	return seen
}

// batch is a pipeline of prepared statements, and COPY in binary.
func (pgxV4) batch(s session, items []row) interface{} {
	seen := list{}
	ensure(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		for _, item := range items[:10] {
			batch.Queue(insert, arguments(item)...)
		}
		batch.Queue("select count(*) from "+table+" where id between $1 and $2", items[0].id, items[9].id)
		results := tx.SendBatch(background, batch)
		for range items[:10] {
			seen = append(seen, changed(results.Exec()))
		}
		var count int
		ensure(results.QueryRow().Scan(&count))
		ensure(results.Close())
		rest := [][]interface{}{}
		for _, item := range items[10:] {
			// Numeric in binary takes a number.
			rest = append(rest, []interface{}{item.id, item.client, item.label, float64(item.client*100) + 0.5, item.seen})
		}
		names := []string{"id", "client", "label", "amount", "seen"}
		copied := try(tx.CopyFrom(background, pgx.Identifier{table}, names, pgx.CopyFromRows(rest)))
		seen = append(seen, count, copied)
		return nil
	}))
	return seen
}

func (pgxV4) cursor(s session) interface{} {
	portions := list{}
	ensure(inTransaction(s, pgx.TxOptions{}, func(tx pgx.Tx) error {
		try(tx.Exec(background, "declare walk no scroll cursor for select g from generate_series(1, 250) g"))
		for {
			portion := all(tx, "fetch 100 from walk")
			if len(portion) == 0 {
				return nil
			}
			portions = append(portions, list{portion[0], len(portion)})
		}
	}))
	return portions
}

func (pgxV4) pool() (func(number int) interface{}, func()) {
	config := try(pgxpool.ParseConfig(""))
	config.MaxConns = 4
	pool := try(pgxpool.ConnectConfig(background, config))
	text := "select count(*) from " + table + " where client = $1"
	return func(number int) interface{} { return all(pool, text, number) }, pool.Close
}

func (pgxV4) listen(s session, channel string, notify func()) interface{} {
	conn := s.(*pgx.Conn)
	try(conn.Exec(background, "listen "+channel))
	notify()
	patience, stop := context.WithTimeout(background, 20*time.Second)
	defer stop()
	got := list{}
	for len(got) < 2 {
		got = append(got, try(conn.WaitForNotification(patience)).Payload)
	}
	try(conn.Exec(background, "unlisten "+channel))
	return list{got, all(conn, "select 'usable'")}
}

func main() { runAll(pgxV4{}) }
