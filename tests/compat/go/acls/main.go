// Creates, describes and deletes access control entries by franz-go's admin client, and prints what it got.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// outcome is what the server answered.
type outcome struct {
	Created   []string `json:"created"`
	Described []string `json:"described"`
	Matching  []string `json:"matching"`
	Deleted   []string `json:"deleted"`
	Left      []string `json:"left"`
}

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func text(kind, name, pattern, principal, host, operation, permission any) string {
	return fmt.Sprint(kind, " ", name, " ", pattern, " ", principal, " ", host, " ", operation, " ", permission)
}

func describe(ctx context.Context, admin *kadm.Client, filter *kadm.ACLBuilder) []string {
	found := []string{}
	for _, result := range must(admin.DescribeACLs(ctx, filter)) {
		must(0, result.Err)
		for _, acl := range result.Described {
			found = append(found, text(acl.Type, acl.Name, acl.Pattern, acl.Principal, acl.Host, acl.Operation, acl.Permission))
		}
	}
	return found
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	client := must(kgo.NewClient(kgo.SeedBrokers(os.Args[1])))
	defer client.Close()
	admin := kadm.NewClient(client)
	everything := kadm.NewACLs().AnyResource().ResourcePatternType(kadm.ACLPatternAny).Operations(kadm.OpAny).
		Allow().AllowHosts().Deny().DenyHosts()
	var out outcome
	literal := kadm.NewACLs().Topics("orders").Groups("readers").ResourcePatternType(kadm.ACLPatternLiteral).
		Operations(kadm.OpRead, kadm.OpDescribe).Allow("User:alice").AllowHosts("*")
	prefixed := kadm.NewACLs().Topics("log-").ResourcePatternType(kadm.ACLPatternPrefixed).
		Operations(kadm.OpAll).Deny("User:bob").DenyHosts("10.0.0.1")
	for _, entries := range []*kadm.ACLBuilder{literal, prefixed} {
		for _, result := range must(admin.CreateACLs(ctx, entries)) {
			must(0, result.Err)
			out.Created = append(out.Created, text(result.Type, result.Name, result.Pattern, result.Principal, result.Host,
				result.Operation, result.Permission))
		}
	}
	out.Described = describe(ctx, admin, everything)
	out.Matching = describe(ctx, admin, kadm.NewACLs().Topics("log-77").ResourcePatternType(kadm.ACLPatternMatch).
		Operations(kadm.OpAny).Deny().DenyHosts())
	for _, result := range must(admin.DeleteACLs(ctx, kadm.NewACLs().Topics("orders").
		ResourcePatternType(kadm.ACLPatternLiteral).Operations(kadm.OpAny).Allow("User:alice").AllowHosts())) {
		must(0, result.Err)
		for _, acl := range result.Deleted {
			out.Deleted = append(out.Deleted, text(acl.Type, acl.Name, acl.Pattern, acl.Principal, acl.Host, acl.Operation,
				acl.Permission))
		}
	}
	out.Left = describe(ctx, admin, everything)
	must(0, json.NewEncoder(os.Stdout).Encode(out))
}
