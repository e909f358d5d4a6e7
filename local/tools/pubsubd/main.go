// Command pubsubd serves Google's in-memory Pub/Sub test server on a loopback port.
//
// It exists because the server ships as a library only. Messages live in memory and are gone when the process ends.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"cloud.google.com/go/pubsub/v2/pstest"
)

func main() {
	port := flag.Int("port", 0, "loopback port to listen on; 0 takes a free one")
	flag.Parse()
	server := pstest.NewServerWithAddress(fmt.Sprintf("127.0.0.1:%d", *port))
	if server == nil {
		log.Fatalf("pubsubd: cannot listen on 127.0.0.1:%d", *port)
	}
	fmt.Println(server.Addr)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	if err := server.Close(); err != nil {
		log.Fatalf("pubsubd: close: %v", err)
	}
}
