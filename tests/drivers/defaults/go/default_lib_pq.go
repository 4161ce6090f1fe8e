// lib/pq as it comes, through database/sql: a query with parameters takes two round trips, and a statement that the program
// prepares and keeps has a name. Each client has a connection of its own.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
)

const table = "default_lib_pq"

const insert = "insert into " + table + " (" + columns + ") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"

var background = context.Background()

// held is a client's connection, with the statements that it prepared outside its handler.
type held struct {
	db         *sql.DB
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func (h *held) prepared(text string) *sql.Stmt {
	if h.statements[text] == nil {
		h.statements[text] = try(h.conn.PrepareContext(background, text))
	}
	return h.statements[text]
}

type libPQ struct{}

func (libPQ) table() string { return table }

// open takes everything from the environment.
func open() *sql.DB { return try(sql.Open("postgres", "")) }

func (libPQ) connect(int) session {
	db := open()
	return &held{db, try(db.Conn(background)), map[string]*sql.Stmt{}}
}

func (libPQ) close(s session) {
	h := s.(*held)
	for _, statement := range h.statements {
		ensure(statement.Close())
	}
	ensure(h.conn.Close())
	ensure(h.db.Close())
}

func arguments(r row) []interface{} {
	return []interface{}{r.id, r.client, r.label, r.amount, r.json(), pq.Array(r.tags), r.seen, r.flag, r.ratio, r.mood}
}

func all(rows *sql.Rows, err error) list {
	ensure(err)
	defer rows.Close()
	names, found := try(rows.Columns()), list{}
	for rows.Next() {
		row, targets := make(list, len(names)), make(list, len(names))
		for column := range row {
			targets[column] = &row[column]
		}
		ensure(rows.Scan(targets...))
		for column, value := range row {
			switch value := value.(type) {
			case []byte:
				row[column] = string(value)
			case time.Time:
				row[column] = value.UTC().Format(time.RFC3339Nano)
			}
		}
		found = append(found, row)
	}
	ensure(rows.Err())
	return found
}

func refusal(err error) interface{} {
	var refused *pq.Error
	if !errors.As(err, &refused) {
		panic(fault{fmt.Errorf("not refused by the server: %v", err)})
	}
	return list{refused.Code, refused.Constraint, refused.Message}
}

func inTransaction(s session, options *sql.TxOptions, work func(tx *sql.Tx) error) error {
	tx := try(s.(*held).conn.BeginTx(background, options))
	// Does nothing behind a commit.
	defer tx.Rollback()
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func (libPQ) transaction(s session, work func(run run) error) error {
	return inTransaction(s, nil, func(tx *sql.Tx) error {
		return work(func(text string, values ...interface{}) list {
			return all(tx.QueryContext(background, text, values...))
		})
	})
}

func (libPQ) alone(s session, text string) { try(s.(*held).conn.ExecContext(background, text)) }

func (libPQ) work(s session, number, turn int) interface{} {
	statement, seen := s.(*held).prepared(insert), list{}
	ensure(inTransaction(s, nil, func(tx *sql.Tx) error {
		try(tx.StmtContext(background, statement).Exec(arguments(newRow(number, turn))...))
		seen = append(seen, all(tx.Query("select label, amount from "+table+" where id = $1", rowID(number, turn))))
		changed := try(tx.Exec("update "+table+" set amount = amount + $1 where client = $2", 1.5, number))
		seen = append(seen, try(changed.RowsAffected()))
		var count int
		var sum string
		row := tx.QueryRow("select count(*), sum(amount) from "+table+" where client = $1", number)
		ensure(row.Scan(&count, &sum))
		seen = append(seen, count, sum)
		if turn%3 == 0 {
			text := "select id from " + table + " where client = $1 order by seen desc limit $2"
			seen = append(seen, all(tx.Query(text, number, 2)))
		}
		return nil
	}))
	return seen
}

// autocommit has the two round trips of its queries outside a transaction.
func (libPQ) autocommit(s session, number, turn int) interface{} {
	h, id := s.(*held), rowID(number, turn)
	changed := try(h.conn.ExecContext(background, "update "+table+" set flag = not flag where id = $1", id))
	return list{
		try(changed.RowsAffected()), all(h.conn.QueryContext(background, "select label, flag from "+table+" where id = $1", id)),
		all(h.prepared("select label from "+table+" where id = $1").QueryContext(background, id)),
		all(h.conn.QueryContext(background, "select now() is not null")),
	}
}

func (libPQ) types(s session, number, turn int) interface{} {
	var seen list
	ensure(inTransaction(s, nil, func(tx *sql.Tx) error {
		try(tx.Exec(insert, arguments(newRow(number, turn))...))
		text := "select count(*) from " + table + " where client = $1 and mood = any($2) and seen = $3 and tags @> $4"
		seen = list{
			all(tx.Query("select * from "+table+" where id = $1", rowID(number, turn))),
			all(tx.Query(text, number, pq.Array([]string{"calm", "wild"}), moment(turn), pq.Array(newRow(number, turn).tags[:1]))),
		}
		return nil
	}))
	return seen
}

func (libPQ) uniqueViolation(s session, item, again row) interface{} {
	inserting := func(items ...row) error {
		return inTransaction(s, nil, func(tx *sql.Tx) error {
			for _, item := range items {
				if _, err := tx.Exec(insert, arguments(item)...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	failure := refusal(inserting(item, item))
	ensure(inserting(item, again))
	return failure
}

func (libPQ) savepointError(s session, item, again row) interface{} {
	var failure interface{}
	statement := s.(*held).prepared(insert)
	ensure(inTransaction(s, nil, func(tx *sql.Tx) error {
		insert := tx.StmtContext(background, statement)
		try(insert.Exec(arguments(item)...))
		try(tx.Exec("savepoint twice"))
		_, err := insert.Exec(arguments(item)...)
		failure = refusal(err)
		try(tx.Exec("rollback to savepoint twice"))
		try(insert.Exec(arguments(again)...))
		return nil
	}))
	return failure
}

// reuse prepares what is new, and keeps it.
func (libPQ) reuse(s session, texts []string, value int) interface{} {
	h, seen := s.(*held), list{}
	for _, text := range texts {
		h.prepared(text)
	}
	ensure(inTransaction(s, nil, func(tx *sql.Tx) error {
		for _, text := range texts {
			seen = append(seen, all(tx.StmtContext(background, h.prepared(text)).Query(value)))
		}
		return nil
	}))
	return seen
}

func (libPQ) isolation(s session) interface{} {
	seen := list{}
	for _, options := range []*sql.TxOptions{{Isolation: sql.LevelSerializable, ReadOnly: true}, nil} {
		ensure(inTransaction(s, options, func(tx *sql.Tx) error {
			seen = append(seen, all(tx.Query("show transaction_isolation")), all(tx.Query("show transaction_read_only")))
			return nil
		}))
	}
	return seen
}

// batch is COPY, and arrays as parameters.
func (libPQ) batch(s session, items []row) interface{} {
	var changed int64
	ensure(inTransaction(s, nil, func(tx *sql.Tx) error {
		copying := try(tx.Prepare(pq.CopyIn(table, "id", "client", "label", "amount", "seen")))
		ids, labels := []int64{}, []string{}
		for _, item := range items {
			try(copying.Exec(item.id, item.client, item.label, item.amount, item.seen))
			ids, labels = append(ids, item.id), append(labels, item.label+"!")
		}
		try(copying.Exec())
		ensure(copying.Close())
		text := "update " + table + " set label = more.label from unnest($1::bigint[], $2::text[]) more (id, label)" +
			" where more.id = " + table + ".id"
		changed = try(try(tx.Exec(text, pq.Array(ids), pq.Array(labels))).RowsAffected())
		return nil
	}))
	return changed
}

func (libPQ) cursor(s session) interface{} {
	portions := list{}
	ensure(inTransaction(s, nil, func(tx *sql.Tx) error {
		try(tx.Exec("declare walk no scroll cursor for select g from generate_series(1, 250) g"))
		for {
			portion := all(tx.Query("fetch 100 from walk"))
			if len(portion) == 0 {
				return nil
			}
			portions = append(portions, list{portion[0], len(portion)})
		}
	}))
	return portions
}

// pool has a statement of the pool, which database/sql prepares on each connection that it meets.
func (libPQ) pool() (func(number int) interface{}, func()) {
	db := open()
	db.SetMaxOpenConns(4)
	statement := try(db.Prepare("select count(*) from " + table + " where client = $1"))
	return func(number int) interface{} { return all(statement.Query(number)) }, func() {
		ensure(statement.Close())
		ensure(db.Close())
	}
}

// listen has a connection of its own for what it listens to.
func (libPQ) listen(s session, channel string, notify func()) interface{} {
	listener := pq.NewListener("", time.Second, time.Second, nil)
	defer listener.Close()
	ensure(listener.Listen(channel))
	notify()
	got := list{}
	for len(got) < 2 {
		select {
		case note := <-listener.Notify:
			got = append(got, note.Extra)
		case <-time.After(20 * time.Second):
			return append(got, "no more")
		}
	}
	ensure(listener.Unlisten(channel))
	ensure(listener.Ping())
	return got
}

func main() { runAll(libPQ{}) }
