// A storm of callers with the retries of docs/retry/pgx.go. README.md here says what is printed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	callers = 24
	turns   = 5
	limit   = 50 * time.Second
)

type counts struct {
	sync.Mutex
	Retries    int    `json:"retries"`
	Told       int    `json:"told"`
	Honoured   int    `json:"honoured"`
	SQLState   string `json:"sqlstate"`
	TriedAgain int    `json:"tried_again"`
}

func (c *counts) retried(err error, pause time.Duration) {
	c.Lock()
	defer c.Unlock()
	c.Retries++
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return
	}
	if told := advice.FindStringSubmatch(said.Detail); told != nil {
		c.Told++
		if ms, _ := strconv.Atoi(told[1]); pause == time.Duration(ms)*time.Millisecond {
			c.Honoured++
		}
	}
}

func serve(caller *Caller, number int) error {
	for turn := 0; turn < turns; turn++ {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		err := caller.Run(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			if _, err := conn.Exec(ctx, "insert into served values ($1, $2)", number, turn); err != nil {
				return err
			}
			_, err := conn.Exec(ctx, "select pg_sleep(0.03)")
			return err
		})
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// refused makes an error that no retry makes good.
func (c *counts) refused() {
	caller := &Caller{DSN: os.Getenv("PGDSN"), Idempotent: true}
	defer caller.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	caller.OnRetry = func(error, time.Duration) { c.TriedAgain++ }
	err := caller.Run(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "selec 1")
		return err
	})
	var said *pgconn.PgError
	if errors.As(err, &said) {
		c.SQLState = said.Code
	}
}

func main() {
	var all counts
	var group sync.WaitGroup
	failed := make(chan error, callers)
	for number := 0; number < callers; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			caller := &Caller{DSN: os.Getenv("PGDSN"), OnRetry: all.retried}
			defer caller.Close(context.Background())
			if err := serve(caller, number); err != nil {
				failed <- err
			}
		}(number)
	}
	group.Wait()
	select {
	case err := <-failed:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	default:
		all.refused()
		_ = json.NewEncoder(os.Stdout).Encode(&all)
	}
}
