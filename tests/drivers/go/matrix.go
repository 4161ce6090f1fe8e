// Package main: what both Go programs of the matrix share. Where to connect, and one JSON line per check. Results hold
// nothing that differs from run to run (no pids, times or OIDs).
//
// The programs are built from lists of files, without modules, against the sources that Debian ships.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Prepared statements that outlive a transaction: only where one server connection belongs to one client.
var cache = os.Getenv("PGCORRAL_CACHE") == "on"

var reported = []string{
	"application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "in_hot_standby",
	"integer_datetimes", "IntervalStyle", "is_superuser", "server_encoding", "session_authorization",
	"standard_conforming_strings", "TimeZone", "server_version",
}

var shown = []string{
	"client_encoding", "TimeZone", "DateStyle", "IntervalStyle", "standard_conforming_strings", "application_name",
}

const series = "select g, repeat(md5(g::text), 32) from generate_series(1, 10000) g order by g"

// skip is what a check returns when the driver cannot do it; the text says why.
type skip string

func (reason skip) Error() string { return string(reason) }

type list []interface{}

type object map[string]interface{}

type check struct {
	name string
	run  func() (interface{}, error)
}

// digest is the length and hash of a value too big to print.
func digest(data []byte) object {
	sum := sha256.Sum256(data)
	return object{"bytes": len(data), "sha256": hex.EncodeToString(sum[:])}
}

// compact leaves the empty fields out.
func compact(fields map[string]string) object {
	kept := object{}
	for name, value := range fields {
		if value != "" && value != "0" {
			kept[name] = value
		}
	}
	return kept
}

// emit prints one line of JSON; nothing if the value has no place in JSON.
func emit(line object) error {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(line); err != nil {
		return err
	}
	_, err := os.Stdout.Write(out.Bytes())
	return err
}

// perform prints the line of one check; false if it failed.
func perform(c check) bool {
	result, err := c.run()
	var reason skip
	if errors.As(err, &reason) {
		return emit(object{"check": c.name, "skipped": string(reason)}) == nil
	}
	if err == nil {
		err = emit(object{"check": c.name, "result": result})
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", c.name, err)
		must(emit(object{"check": c.name, "failed": err.Error()}))
	}
	return err == nil
}

// performAll runs the checks in their order; false if one failed.
func performAll(checks []check) bool {
	passed := true
	for _, c := range checks {
		passed = perform(c) && passed
	}
	return passed
}

// must is for the setting up and clearing away around the checks.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// samples are pairs of a type's name and a value in PostgreSQL's own notation.
var samples = [][2]string{
	{"smallint", "-32768"}, {"int", "2147483647"}, {"bigint", "-9223372036854775808"},
	{"numeric", "12345678901234567890.000000001"}, {"real", "1.5"}, {"float8", "0.1"}, {"float8", "-Infinity"},
	{"text", ""}, {"text", "quote ' backslash \\ dollar $1 percent %s"}, {"text", "zażółć 日本語 🐎 e\u0301"},
	{"varchar(5)", "short"}, {"char(5)", "pad"}, {"date", "2024-02-29"}, {"time", "23:59:59.999999"},
	{"timestamp", "1969-07-20 20:17:40.123456"}, {"interval", "-3 days 00:00:05.000007"},
	{"json", `{"a": [1, null, "ü"], "b": {}}`}, {"jsonb", `[true, 1.5, "x"]`},
	{"uuid", "12345678-1234-5678-1234-567812345678"}, {"inet", "192.0.2.1/24"}, {"int[]", "{{1,2},{3,NULL}}"},
	{"text[]", `{"a,b","c\"d",NULL,"{}",""}`}, {"int4range", "[3,9)"},
}
