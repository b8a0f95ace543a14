// pstest serves the fake Pub/Sub server of Google's Go client on the address given, until it is killed.
package main

import (
	"fmt"
	"os"

	"cloud.google.com/go/pubsub/v2/pstest"
)

func main() {
	server := pstest.NewServerWithAddress(os.Args[1])
	fmt.Println("ready", server.Addr)
	select {}
}
