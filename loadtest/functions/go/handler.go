// A function on AWS Lambda that uses PostgreSQL through pgcorral, with lib/pq and database/sql.
//
// The pool of one connection is kept outside the handler: an instance opens it in its first invocation and finds it again
// in the next. The script of the event runs in one transaction, because that is what the proxy lends a server connection
// for.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"regexp"
	"strconv"
	"time"

	"github.com/lib/pq"
)

// Event is what the function is called with.
type Event struct {
	Script []string `json:"script"`
	Retry  *bool    `json:"retry"`
}

// Response is what it answers.
type Response struct {
	Rows     int64 `json:"rows"`
	Attempts int   `json:"attempts"`
}

var db *sql.DB

// open is called once, from main. The connection string has application_name: the proxy's metrics and queues tell
// functions apart by it. It also has binary_parameters=yes, without which lib/pq sends a query with parameters in two
// round trips, and those may meet two server connections.
func open(connector driver.Connector) {
	db = sql.OpenDB(connector)
	// An instance handles one event at a time. A connection that was lost while it was suspended is replaced by
	// database/sql, which begins the transaction again on a new one.
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
}

func transaction(ctx context.Context, script []string) (rows int64, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer tx.Rollback() // does nothing after Commit
	for _, statement := range script {
		result, err := tx.ExecContext(ctx, statement)
		if err != nil {
			return 0, err
		}
		if affected, err := result.RowsAffected(); err == nil {
			rows += affected
		}
	}
	return rows, tx.Commit()
}

var retryAfterMs = regexp.MustCompile(`\bretry_after_ms=(\d+)`)

// retryAfter is how long to wait before it is worth trying again, if the proxy refused the transaction and said so.
func retryAfter(err error) (time.Duration, bool) {
	var refused *pq.Error
	if !errors.As(err, &refused) {
		return 0, false
	}
	found := retryAfterMs.FindStringSubmatch(refused.Detail)
	if found == nil {
		return 0, false
	}
	ms, err := strconv.Atoi(found[1])
	return time.Duration(ms) * time.Millisecond, err == nil
}

func handle(ctx context.Context, event Event) (Response, error) {
	rows, err := transaction(ctx, event.Script)
	if err == nil {
		return Response{rows, 1}, nil
	}
	// A refusal with retry_after_ms comes before anything has run. Waiting as long as it says, once, gets most callers
	// through a burst; retrying at once, or many times, is what makes a burst an outage.
	pause, told := retryAfter(err)
	deadline, limited := ctx.Deadline()
	if !told || (event.Retry != nil && !*event.Retry) || (limited && time.Until(deadline) <= pause) {
		return Response{}, err
	}
	time.Sleep(pause)
	rows, err = transaction(ctx, event.Script)
	return Response{rows, 2}, err
}
