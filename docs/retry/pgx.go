// Retries for pgx behind pgcorral: keep one Caller per function instance, and hand it transactions.
package main

import (
	"context"
	"errors"
	"math/rand"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Pauses without advice: at most this long at first, twice as long each time, and never longer than the last.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

var advice = regexp.MustCompile(`\bretry_after_ms=(\d+)`)

// Caller is not for several goroutines at once.
type Caller struct {
	DSN string
	// Idempotent: a transaction that was lost together with its server is tried again, though it may have been committed.
	Idempotent bool
	OnRetry    func(err error, pause time.Duration)
	conn       *pgx.Conn
}

// Run runs work in a transaction. It gives up at the deadline of ctx, with the last error.
func (c *Caller) Run(ctx context.Context, work func(ctx context.Context, conn *pgx.Conn) error) error {
	for attempt := 0; ; attempt++ {
		connected, err := c.try(ctx, work)
		if err == nil {
			return nil
		}
		var unreachable net.Error
		lost := connected && c.conn.IsClosed() || !connected && errors.As(err, &unreachable)
		pause, again := pauseAfter(err, attempt, lost, c.Idempotent || !connected)
		if deadline, ok := ctx.Deadline(); !again || ctx.Err() != nil || ok && time.Now().Add(pause).After(deadline) {
			return err
		}
		if c.OnRetry != nil {
			c.OnRetry(err, pause)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// Close closes the connection.
func (c *Caller) Close(ctx context.Context) error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close(ctx)
}

// try makes one attempt; connected tells whether the error comes from behind the login.
func (c *Caller) try(ctx context.Context, work func(context.Context, *pgx.Conn) error) (connected bool, err error) {
	// Not for an error of the transaction: only a connection that is gone is opened again.
	if c.conn == nil || c.conn.IsClosed() {
		if c.conn, err = pgx.Connect(ctx, c.DSN); err != nil {
			c.conn = nil
			return false, err
		}
	}
	// Not conn.Begin: it closes the connection if BEGIN fails, and a refusal is such a failure.
	if _, err = c.conn.Exec(ctx, "begin"); err != nil {
		return true, err
	}
	if err = work(ctx, c.conn); err == nil {
		_, err = c.conn.Exec(ctx, "commit")
		return true, err
	}
	if !c.conn.IsClosed() {
		_, _ = c.conn.Exec(ctx, "rollback")
	}
	return true, err
}

// pauseAfter is how long to wait for the next attempt, and whether there may be one.
func pauseAfter(err error, attempt int, lost, mayRunTwice bool) (time.Duration, bool) {
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		// Not the answer of a server: a connection that broke or could not be opened, or the caller's own error.
		return backoff(attempt), lost && (mayRunTwice || pgconn.SafeToRetry(err))
	}
	if told := advice.FindStringSubmatch(said.Detail); told != nil {
		ms, _ := strconv.Atoi(told[1])
		return time.Duration(ms) * time.Millisecond, true
	}
	switch said.Code {
	// Refused before anything has taken effect, by pgcorral or by PostgreSQL itself.
	case "53300", "53400", "57P03", "08001":
		return backoff(attempt), true
	case "08006":
		return backoff(attempt), mayRunTwice
	}
	return 0, false
}

func backoff(attempt int) time.Duration {
	longest := longestPause
	if attempt < 10 && firstPause<<attempt < longest {
		longest = firstPause << attempt
	}
	return time.Duration(rand.Int63n(int64(longest)))
}
