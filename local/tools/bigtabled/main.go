// Command bigtabled serves Google's in-memory Bigtable test server on a loopback port, with change streams added.
//
// The stock emulator ends its process on a call that it lacks. This one answers Unimplemented instead and lives on, so
// one client's unsupported call cannot take every table with it. Change streams it lacks altogether: here every write
// passes interceptors that know what was written, and from that the two calls of change streams are answered.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"

	"cloud.google.com/go/bigtable/bttest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// maxMessageBytes is the largest request that Bigtable itself takes.
const maxMessageBytes = 256 << 20

func unimplemented(method string, err *error) {
	if cause := recover(); cause != nil {
		*err = status.Errorf(codes.Unimplemented, "%s: %v", method, cause)
	}
}

func unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer unimplemented(info.FullMethod, &err)
	return handle(ctx, req)
}

func stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
	defer unimplemented(info.FullMethod, &err)
	return handle(srv, ss)
}

func main() {
	port := flag.Int("port", 0, "loopback port to listen on; 0 takes a free one")
	records := flag.Int("change-records", 500_000, "change records kept for each table, whatever its retention")
	megabytes := flag.Int("change-megabytes", 256, "megabytes of change records kept for each table")
	flag.Parse()
	tables := newTables(bounds{records: *records, bytes: *megabytes << 20})
	server, err := bttest.NewServer(
		fmt.Sprintf("127.0.0.1:%d", *port),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.ChainUnaryInterceptor(unary, tables.unary),
		grpc.ChainStreamInterceptor(stream, tables.stream),
	)
	if err != nil {
		log.Fatalf("bigtabled: %v", err)
	}
	connection, err := grpc.NewClient(server.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatalf("bigtabled: %v", err)
	}
	go tables.collect(connection)
	fmt.Println(server.Addr)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	server.Close()
}
