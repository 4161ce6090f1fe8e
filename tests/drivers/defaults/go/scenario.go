// Package main: what the Go programs of this matrix share: the clients, and every check that is the same for each library.
// See scenario.py, of which this is the same in Go; statements here have `$1` for their parameters.
//
// What goes wrong ends the check: functions panic with a fault, and a client that panics fails its check.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

const clientCount = 20

var zones = []string{"Asia/Tokyo", "America/Lima", "Europe/Warsaw", "UTC", "Australia/Sydney"}

const show = "select current_setting('application_name'), current_setting('TimeZone'), current_setting('statement_timeout')," +
	" current_setting('search_path')"

// session is whatever a library's connect returns.
type session interface{}

// run gives the rows of one statement within a transaction.
type run func(text string, values ...interface{}) list

// library is what a program provides, in its library's ordinary style.
type library interface {
	table() string
	connect(number int) session
	close(s session)
	// transaction rolls back and returns the error of work; work stays on the session's connection.
	transaction(s session, work func(run run) error) error
	// alone is a statement outside a transaction.
	alone(s session, text string)
	work(s session, number, turn int) interface{}
	autocommit(s session, number, turn int) interface{}
	types(s session, number, turn int) interface{}
	uniqueViolation(s session, item, again row) interface{}
	savepointError(s session, item, again row) interface{}
	reuse(s session, texts []string, value int) interface{}
	isolation(s session) interface{}
	batch(s session, items []row) interface{}
	cursor(s session) interface{}
	pool() (once func(number int) interface{}, end func())
	listen(s session, channel string, notify func()) interface{}
}

// row has a value of every type; some are null.
type row struct {
	id     int64
	client int
	label  string
	amount string
	data   map[string]interface{}
	tags   []string
	seen   time.Time
	flag   bool
	ratio  *float64
	mood   string
}

const columns = "id, client, label, amount, data, tags, seen, flag, ratio, mood"

func rowID(number, place int) int64 { return int64(number*10000 + place) }

func moment(turn int) time.Time { return time.Date(2025, 3, 30, turn, 59, 59, 123456000, time.UTC) }

func newRow(number, turn int) row {
	made := row{
		id: rowID(number, turn), client: number, label: fmt.Sprintf("client %d, turn %d", number, turn),
		amount: fmt.Sprintf("%d.25", number*100+turn), data: map[string]interface{}{"turn": turn, "list": list{1, nil, "ü"}},
		tags: []string{fmt.Sprintf("t%d", turn), "a,b", `c"d`, ""}, seen: moment(turn), flag: turn%2 == 0,
		mood: []string{"calm", "wild"}[turn%2],
	}
	if turn%3 == 0 {
		ratio := float64(turn) / 8
		made.ratio = &ratio
	}
	return made
}

func (r row) json() string { return string(try(json.Marshal(r.data))) }

// fault is what ends a check.
type fault struct{ err error }

func ensure(err error) {
	if err != nil {
		panic(fault{err})
	}
}

func try[T any](value T, err error) T {
	ensure(err)
	return value
}

// client is a function instance: connects once, then runs invocations, each one transaction, with a pause between two.
type client struct {
	number  int
	session session
}

type scenario struct {
	library
	clients []*client
	extra   *client
}

// pause is of another length for each, so that clients overtake each other.
func pause(number, turn int) { time.Sleep(time.Duration((number*7+turn*13)%11*3) * time.Millisecond) }

// together runs work for every one of the clients at once.
func together(clients []*client, work func(c *client) interface{}) list {
	seen, faults := make(list, len(clients)), make([]error, len(clients))
	var group sync.WaitGroup
	for at := range clients {
		group.Add(1)
		go func(at int) {
			defer group.Done()
			seen[at], faults[at] = caught(func() interface{} { return work(clients[at]) })
		}(at)
	}
	group.Wait()
	for _, err := range faults {
		ensure(err)
	}
	return seen
}

// caught turns a panic with a fault into its error.
func caught(work func() interface{}) (result interface{}, err error) {
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case fault:
			err = cause.err
		default:
			panic(cause)
		}
	}()
	return work(), nil
}

func (s *scenario) all(work func(c *client) interface{}) list { return together(s.clients, work) }

// turns are invocations of every client.
func (s *scenario) turns(count int, once func(c *client, turn int) interface{}) interface{} {
	return s.all(func(c *client) interface{} {
		seen := list{}
		for turn := 0; turn < count; turn++ {
			seen = append(seen, once(c, turn))
			pause(c.number, turn)
		}
		return seen
	})
}

// statement is one transaction of one statement; its rows.
func (s *scenario) statement(c *client, text string, values ...interface{}) (rows list) {
	ensure(s.transaction(c.session, func(run run) error {
		rows = run(text, values...)
		return nil
	}))
	return rows
}

func (s *scenario) setAll(c *client, texts ...string) {
	ensure(s.transaction(c.session, func(run run) error {
		for _, text := range texts {
			run(text)
		}
		return nil
	}))
}

func (s *scenario) setAlone(c *client, texts ...string) {
	for _, text := range texts {
		s.alone(c.session, text)
	}
}

// others is a transaction of each of three other clients: whatever stays on a server connection has other company now.
func (s *scenario) others(text string) {
	together(s.clients[1:4], func(c *client) interface{} { return s.statement(c, text) })
}

func (s *scenario) company() { s.others("select count(*) >= 0 from " + s.table()) }

func (s *scenario) open(c *client) interface{} {
	c.session = s.connect(c.number)
	return nil
}

func (s *scenario) shut(c *client) interface{} {
	s.close(c.session)
	return nil
}

// withExtra is for a client that has just connected; what it has left behind goes with it.
func (s *scenario) withExtra(work func() interface{}) interface{} {
	// The one before has left a moment ago, and may still be on its way out.
	time.Sleep(100 * time.Millisecond)
	s.open(s.extra)
	defer s.shut(s.extra)
	return work()
}

// step is a statement of a client.
type step struct {
	client *client
	text   string
}

// script runs one transaction for each step, with others' transactions in between.
func (s *scenario) script(between func(), steps ...step) interface{} {
	return s.withExtra(func() interface{} {
		seen := list{}
		for _, step := range steps {
			seen = append(seen, s.statement(step.client, step.text))
			between()
		}
		return seen
	})
}

func (s *scenario) ofExtra(texts ...string) interface{} {
	steps := make([]step, len(texts))
	for at, text := range texts {
		steps[at] = step{s.extra, text}
	}
	return s.script(s.company, steps...)
}

func (s *scenario) execute(texts ...string) {
	s.withExtra(func() interface{} {
		for _, text := range texts {
			s.statement(s.extra, text)
		}
		return nil
	})
}

func (s *scenario) clear() {
	table := s.table()
	s.execute("drop table if exists "+table, "drop type if exists "+table+"_mood", "drop sequence if exists "+table+"_seq")
}

func (s *scenario) prepare() {
	s.clear()
	table := s.table()
	s.execute("create type "+table+"_mood as enum ('calm', 'wild')", "create sequence "+table+"_seq",
		"create table "+table+" (id bigint primary key, client int not null, label text, amount numeric(12, 2), data jsonb,"+
			" tags text[], seen timestamptz, flag bool, ratio float8, mood "+table+"_mood)")
}

// The checks.

func (s *scenario) checkConnect() interface{} {
	s.all(s.open)
	return s.all(func(c *client) interface{} {
		return s.statement(c, "select 1, current_user::text, current_database()::text")
	})
}

func (s *scenario) checkTransactions() interface{} {
	return s.turns(12, func(c *client, turn int) interface{} { return s.work(c.session, c.number, turn) })
}

func (s *scenario) checkAutocommit() interface{} {
	return s.turns(4, func(c *client, turn int) interface{} { return s.autocommit(c.session, c.number, turn) })
}

func (s *scenario) checkTypes() interface{} {
	return s.turns(4, func(c *client, turn int) interface{} { return s.types(c.session, c.number, 100+turn) })
}

func (s *scenario) failingTwice(first int, fail func(s session, item, again row) interface{}) interface{} {
	return s.turns(3, func(c *client, turn int) interface{} {
		low := first + 2*turn
		failure := fail(c.session, newRow(c.number, low), newRow(c.number, low+1))
		text := "select id, label from " + s.table() + " where client = $1 and id >= $2 order by id"
		return list{failure, s.statement(c, text, c.number, rowID(c.number, low))}
	})
}

func (s *scenario) checkUniqueViolation() interface{} { return s.failingTwice(200, s.uniqueViolation) }

func (s *scenario) checkSavepointError() interface{} { return s.failingTwice(300, s.savepointError) }

// checkPreparedReuse has as many different statements; a client runs some of them, and each client begins with another.
func (s *scenario) checkPreparedReuse() interface{} {
	return s.turns(8, func(c *client, turn int) interface{} {
		texts := make([]string, 5)
		for place := range texts {
			number := (c.number*5 + (place+turn)%5*7) % 24
			texts[place] = fmt.Sprintf("select $1::int + %d, 'statement %d'", number, number)
		}
		return s.reuse(c.session, texts, turn)
	})
}

func (s *scenario) checkIsolation() interface{} {
	return s.turns(3, func(c *client, turn int) interface{} { return s.isolation(c.session) })
}

func (s *scenario) checkBatch() interface{} {
	return s.turns(2, func(c *client, turn int) interface{} {
		low := 400 + 20*turn
		items := make([]row, 20)
		for place := range items {
			items[place] = newRow(c.number, low+place)
		}
		done := s.batch(c.session, items)
		text := "select count(*), sum(amount)::text from " + s.table() + " where client = $1 and id >= $2"
		return list{done, s.statement(c, text, c.number, rowID(c.number, low))}
	})
}

func (s *scenario) checkCursor() interface{} {
	return s.turns(2, func(c *client, turn int) interface{} { return s.cursor(c.session) })
}

func (s *scenario) checkSessionSettings() interface{} {
	return s.all(func(c *client) interface{} {
		set := s.setAll
		if c.number/2%2 == 1 {
			set = s.setAlone
		}
		set(c, fmt.Sprintf("set application_name = 'client %d'", c.number),
			fmt.Sprintf("set timezone = '%s'", zones[c.number%len(zones)]),
			fmt.Sprintf("set statement_timeout = '%dms'", 20000+c.number),
			"set search_path = "+[]string{"public, pg_catalog", "pg_catalog, public"}[c.number%2])
		seen := list{}
		for turn := 0; turn < 4; turn++ {
			seen = append(seen, s.statement(c, show))
			pause(c.number, turn)
		}
		name := s.statement(c, fmt.Sprintf("select set_config('application_name', 'again %d', false)", c.number))
		pause(c.number, 4)
		return append(seen, name, s.statement(c, show))
	})
}

var errUndo = errors.New("undo")

func (s *scenario) checkSettingsUndone() interface{} {
	const show = "select current_setting('statement_timeout'), current_setting('TimeZone'), current_setting('lock_timeout')"
	return s.turns(2, func(c *client, turn int) interface{} {
		s.setAll(c, "set local statement_timeout = '25s'", "set local timezone = 'Asia/Tokyo'")
		pause(c.number, turn)
		seen := list{s.statement(c, show)}
		err := s.transaction(c.session, func(run run) error {
			run("set timezone = 'Asia/Tokyo'")
			run("set lock_timeout = '26s'")
			return errUndo
		})
		if !errors.Is(err, errUndo) {
			panic(fault{err})
		}
		pause(c.number, turn+1)
		seen = append(seen, s.statement(c, show))
		s.setAll(c, "savepoint s", "set lock_timeout = '27s'", "rollback to savepoint s", "release savepoint s")
		pause(c.number, turn+2)
		return append(seen, s.statement(c, show))
	})
}

// checkSettingsReset is back to what the client asked for when it logged in.
func (s *scenario) checkSettingsReset() interface{} {
	resets := [][]string{
		{"reset application_name", "set timezone to default", "reset statement_timeout", "reset search_path"}, {"reset all"},
	}
	return s.turns(4, func(c *client, turn int) interface{} {
		run := s.setAll
		if turn >= 2 {
			run = s.setAlone
		}
		run(c, "set application_name = 'to be reset'", "set timezone = 'Asia/Tokyo'", "set statement_timeout = '28s'",
			"set search_path = pg_catalog, public")
		pause(c.number, turn)
		run(c, resets[turn%2]...)
		pause(c.number, turn+1)
		return s.statement(c, show)
	})
}

func (s *scenario) checkPoolCheckout() interface{} {
	once, end := s.pool()
	defer end()
	return s.turns(3, func(c *client, turn int) interface{} { return once(c.number) })
}

func (s *scenario) checkListenNotify() interface{} {
	channel := s.table() + "_channel"
	return s.withExtra(func() interface{} {
		return s.listen(s.extra.session, channel, func() {
			s.company()
			for _, payload := range []string{"one", "two"} {
				s.statement(s.clients[0], "select pg_notify('"+channel+"', '"+payload+"')::text")
			}
			s.company()
		})
	})
}

func (s *scenario) checkTempTable() interface{} {
	return s.ofExtra("create temporary table scratch (n int)", "insert into scratch values (1), (2), (3)",
		"select sum(n) from scratch", "insert into scratch select n + 3 from scratch returning n", "select sum(n) from scratch",
		"drop table scratch", "select to_regclass('scratch')::text")
}

func (s *scenario) checkAdvisoryLock() interface{} {
	sum := 0
	for _, letter := range []byte(s.table()) {
		sum += int(letter)
	}
	key, other := strconv.Itoa(sum), s.clients[0]
	return s.script(s.company, step{s.extra, "select pg_advisory_lock(" + key + ")::text"},
		step{other, "select pg_try_advisory_xact_lock(" + key + ")"},
		step{s.extra, "select count(*) from pg_locks where locktype = 'advisory' and objid = " + key + " and pid = pg_backend_pid()"},
		step{s.extra, "select pg_advisory_unlock(" + key + ")"}, step{other, "select pg_try_advisory_xact_lock(" + key + ")"})
}

func (s *scenario) checkHoldCursor() interface{} {
	return s.ofExtra("declare held cursor with hold for select g from generate_series(1, 10) g", "fetch 3 from held",
		"fetch 4 from held", "close held", "select count(*) from pg_cursors where name = 'held'")
}

// checkSequenceValue asks in the transaction that drew the number, and again in later ones.
func (s *scenario) checkSequenceValue() interface{} {
	name := "'" + s.table() + "_seq'"
	return s.script(func() { s.others("select nextval(" + name + ")") }, step{s.extra, "select setval(" + name + ", 1000)"},
		step{s.extra, "select nextval(" + name + "), currval(" + name + ")"}, step{s.extra, "select currval(" + name + ")"},
		step{s.extra, "select lastval()"})
}

func (s *scenario) checkSQLPrepare() interface{} {
	return s.ofExtra("prepare doubled (int) as select $1 * 2", "execute doubled (4)", "execute doubled (5)", "deallocate doubled",
		"select count(*) from pg_prepared_statements where name = 'doubled'")
}

func (s *scenario) checkReconnect() interface{} {
	s.all(s.shut)
	s.all(s.open)
	return s.turns(3, func(c *client, turn int) interface{} { return s.work(c.session, c.number, 500+turn) })
}

// checkNoLeaks is what a new client finds: nothing of what others did.
func (s *scenario) checkNoLeaks() interface{} {
	s.all(s.shut)
	s.all(s.open)
	return s.all(func(c *client) interface{} {
		seen := list{}
		for _, text := range []string{
			show, "select current_setting('lock_timeout'), current_setting('transaction_isolation')",
			"select count(*) from pg_listening_channels()",
			"select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
			"select count(*) from pg_cursors where is_holdable",
			"select count(*) from pg_class where relpersistence = 't' and pg_table_is_visible(oid)",
			"select count(*) from pg_prepared_statements where from_sql",
		} {
			seen = append(seen, s.statement(c, text))
		}
		return seen
	})
}

// runAll runs every check; the exit code says whether all passed.
func runAll(of library) {
	s := &scenario{library: of, extra: &client{number: clientCount}}
	for number := 0; number < clientCount; number++ {
		s.clients = append(s.clients, &client{number: number})
	}
	guarded := func(name string, work func() interface{}) check {
		return check{name, func() (interface{}, error) { return caught(work) }}
	}
	before := func(work func()) { must(second(caught(func() interface{} { work(); return nil }))) }
	before(s.prepare)
	passed := performAll([]check{
		guarded("connect", s.checkConnect), guarded("transactions", s.checkTransactions),
		guarded("autocommit", s.checkAutocommit), guarded("types", s.checkTypes),
		guarded("unique_violation", s.checkUniqueViolation), guarded("savepoint_error", s.checkSavepointError),
		guarded("prepared_reuse", s.checkPreparedReuse), guarded("isolation", s.checkIsolation),
		guarded("batch", s.checkBatch), guarded("cursor", s.checkCursor),
		guarded("session_settings", s.checkSessionSettings), guarded("settings_undone", s.checkSettingsUndone),
		guarded("settings_reset", s.checkSettingsReset), guarded("pool_checkout", s.checkPoolCheckout),
		guarded("listen_notify", s.checkListenNotify), guarded("temp_table", s.checkTempTable),
		guarded("advisory_lock", s.checkAdvisoryLock), guarded("hold_cursor", s.checkHoldCursor),
		guarded("sequence_value", s.checkSequenceValue), guarded("sql_prepare", s.checkSQLPrepare),
		guarded("reconnect", s.checkReconnect), guarded("no_leaks", s.checkNoLeaks),
	})
	before(func() {
		s.all(s.shut)
		s.clear()
	})
	if !passed {
		os.Exit(1)
	}
}

func second(_ interface{}, err error) error { return err }
