// What Lambda's runtime does around handler.go: one event per line on standard input, one answer per line on standard
// output. It ends when standard input does. Whatever the handler prints goes to standard error.
package main

import (
	"bufio"
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/lib/pq"
)

type envelope struct {
	Event       Event `json:"event"`
	RemainingMs int64 `json:"remaining_ms"`
}

// note is one attempt to connect.
type note struct {
	AfterUs int64 `json:"after_us"`
	TookUs  int64 `json:"took_us"`
	Ok      bool  `json:"ok"`
}

type answer struct {
	Init     bool   `json:"init,omitempty"`
	Ok       bool   `json:"ok"`
	Rows     int64  `json:"rows"`
	Attempts int    `json:"attempts"`
	Sqlstate string `json:"sqlstate,omitempty"`
	Message  string `json:"message,omitempty"`
	Detail   string `json:"detail,omitempty"`
	Connect  bool   `json:"connect"`
	Timeout  bool   `json:"timeout"`
	Connects []note `json:"connects"`
}

// noting is lib/pq's connector, taking notes: a handler should not have to say when it connects.
type noting struct {
	driver.Connector
	started  time.Time
	connects []note
	failed   error
}

func (n *noting) Connect(ctx context.Context) (driver.Conn, error) {
	begun := time.Now()
	conn, err := n.Connector.Connect(ctx)
	n.failed = err
	if len(n.connects) < 16 {
		n.connects = append(n.connects, note{begun.Sub(n.started).Microseconds(), time.Since(begun).Microseconds(), err == nil})
	}
	return conn, err
}

func (n *noting) invoke(line []byte) (told answer) {
	n.started, n.connects, n.failed = time.Now(), []note{}, nil
	defer func() { told.Connects = n.connects }()
	var e envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return answer{Message: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(e.RemainingMs)*time.Millisecond)
	defer cancel()
	response, err := handle(ctx, e.Event)
	if err == nil {
		return answer{Ok: true, Rows: response.Rows, Attempts: response.Attempts}
	}
	told = answer{Message: err.Error(), Connect: n.failed != nil && errors.Is(err, n.failed), Timeout: ctx.Err() != nil}
	var refused *pq.Error
	if errors.As(err, &refused) {
		told.Sqlstate, told.Message, told.Detail = string(refused.Code), refused.Message, refused.Detail
	}
	return told
}

func main() {
	answers := json.NewEncoder(os.Stdout)
	os.Stdout = os.Stderr
	connector, err := pq.NewConnector(dsn())
	must(err)
	n := &noting{Connector: connector}
	open(n)
	must(answers.Encode(answer{Init: true}))
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		must(answers.Encode(n.invoke(lines.Bytes())))
	}
}

// dsn is DATABASE_URL as key=value pairs, with what a function behind pgcorral adds to it.
func dsn() string {
	parsed, err := pq.ParseURL(os.Getenv("DATABASE_URL"))
	must(err)
	name := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
	return parsed + " binary_parameters=yes application_name='" + name + "'"
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
