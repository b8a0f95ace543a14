// Package cases names the cases, runs them one by one and prints `PASS name` or `FAIL name: reason`.
package cases

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// Codecs are the compressions that every client of Kafka has.
var Codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

type one struct {
	name string
	run  func()
}

var all []one

// Add registers a case.
func Add(name string, run func()) { all = append(all, one{name, run}) }

// Login says how to log in: security (Kafka's word), ca (a file, with TLS), mechanism, user, password, token.
// Empty: not at all.
var Login = func() map[string]string {
	values := map[string]string{}
	if text := os.Getenv("COMPAT_LOGIN"); text != "" {
		Check(json.Unmarshal([]byte(text), &values))
	}
	return values
}()

// TLS is the configuration with the server's authority; nil without TLS.
func TLS() *tls.Config {
	if Login["ca"] == "" {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(Must(os.ReadFile(Login["ca"])))
	return &tls.Config{RootCAs: roots}
}

// Address is the server's HOST:PORT, the first argument.
func Address() string { return os.Args[1] }

// Fresh gives a name that no other case uses.
func Fresh(prefix string) string {
	random := make([]byte, 4)
	_, _ = rand.Read(random)
	return prefix + "-" + hex.EncodeToString(random)
}

// Check fails the case when err is not nil.
func Check(err error) {
	if err != nil {
		panic(err)
	}
}

// Must gives the value, or fails the case.
func Must[T any](value T, err error) T {
	Check(err)
	return value
}

// Same fails the case unless both are equal.
func Same(got, expected any, what string) {
	if !reflect.DeepEqual(got, expected) {
		panic(fmt.Errorf("%s: got %v, expected %v", what, got, expected))
	}
}

// Eventually waits until check gives true.
func Eventually(what string, check func() bool) {
	deadline := time.Now().Add(40 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			panic(fmt.Errorf("not so after 40 s: %s", what))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func run(name string, body func()) (err error) {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if reason := recover(); reason != nil {
				done <- fmt.Errorf("%v", reason)
			}
			done <- nil
		}()
		body()
	}()
	select {
	case err = <-done:
	case <-time.After(60 * time.Second):
		err = fmt.Errorf("case still running after 60 s")
	}
	return err
}

// Main runs all cases, or those named after the address.
func Main() {
	failed := 0
	for _, each := range all {
		if len(os.Args) > 2 && !strings.Contains(" "+strings.Join(os.Args[2:], " ")+" ", " "+each.name+" ") {
			continue
		}
		if err := run(each.name, each.run); err != nil {
			failed++
			fmt.Printf("FAIL %s: %.400s\n", each.name, strings.Join(strings.Fields(err.Error()), " "))
		} else {
			fmt.Printf("PASS %s\n", each.name)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}
