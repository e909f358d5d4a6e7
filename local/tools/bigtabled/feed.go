package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	btpb "cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// bounds limit what one table's feed keeps in memory beside its retention.
type bounds struct {
	records int
	bytes   int
}

// change is all that one call did to one row.
type change struct {
	kind      btpb.ReadChangeStreamResponse_DataChange_Type
	row       []byte
	committed int64 // microseconds since the epoch, strictly ascending within a table
	mutations []*btpb.Mutation
	bytes     int
}

// feed holds the changes of one table, in the order of their commits.
type feed struct {
	// Held over a write and its record, so that the records of a row stand in the order of their commits.
	writing sync.Mutex
	// What the table's rows hold by the records, for telling what the garbage collector takes. Guarded by writing.
	cells inventory

	bounds bounds
	life   string // tokens of another process' feed must not be taken for positions in this one

	mu        sync.Mutex
	retention time.Duration
	first     uint64 // the position of changes[0]
	changes   []change
	bytes     int
	committed int64
	dropped   int64         // commit time of the newest change that is no longer kept
	grown     chan struct{} // closed at the next change
	closed    chan struct{} // closed when the table has no feed any more
}

func newFeed(retention time.Duration, limits bounds) *feed {
	return &feed{
		cells:     inventory{},
		bounds:    limits,
		life:      strconv.FormatInt(time.Now().UnixNano(), 36),
		retention: retention,
		grown:     make(chan struct{}),
		closed:    make(chan struct{}),
	}
}

// record appends a change; the caller holds writing.
func (f *feed) record(kind btpb.ReadChangeStreamResponse_DataChange_Type, row []byte, mutations []*btpb.Mutation) {
	if len(mutations) == 0 {
		return
	}
	size := len(row)
	for _, mutation := range mutations {
		size += proto.Size(mutation)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.committed = max(time.Now().UnixMicro(), f.committed+1)
	f.changes = append(f.changes, change{kind, row, f.committed, mutations, size})
	f.bytes += size
	f.trim()
	close(f.grown)
	f.grown = make(chan struct{})
}

func (f *feed) trim() {
	oldest := time.Now().Add(-f.retention).UnixMicro()
	count := 0
	for count < len(f.changes) &&
		(f.changes[count].committed < oldest || len(f.changes)-count > f.bounds.records || f.bytes > f.bounds.bytes) {
		f.bytes -= f.changes[count].bytes
		f.dropped = f.changes[count].committed
		f.changes[count] = change{}
		count++
	}
	f.first += uint64(count)
	f.changes = f.changes[count:]
}

// after returns up to limit changes from a position on, and what is closed when there are more.
func (f *feed) after(position uint64, limit int) ([]change, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if position < f.first {
		return nil, nil, status.Error(codes.OutOfRange, "the changes that follow this position are no longer kept")
	}
	begin := min(position-f.first, uint64(len(f.changes)))
	end := min(begin+uint64(limit), uint64(len(f.changes)))
	return f.changes[begin:end:end], f.grown, nil
}

// at returns the position of the first change that was committed at or after a time.
func (f *feed) at(micros int64) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if micros <= f.dropped {
		return 0, status.Error(codes.OutOfRange, "the changes since this start time are no longer all kept")
	}
	for index, one := range f.changes {
		if one.committed >= micros {
			return f.first + uint64(index), nil
		}
	}
	return f.first + uint64(len(f.changes)), nil
}

// next returns the position behind the newest change, and the newest commit time or now if that is later.
func (f *feed) next() (uint64, int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first + uint64(len(f.changes)), max(f.committed, time.Now().UnixMicro())
}

func (f *feed) token(position uint64) string {
	return fmt.Sprintf("%s.%d", f.life, position)
}

func (f *feed) position(token string) (uint64, error) {
	life, number, _ := strings.Cut(token, ".")
	position, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0, status.Errorf(codes.InvalidArgument, "%q is no continuation token", token)
	}
	if life != f.life {
		return 0, status.Error(codes.OutOfRange, "the continuation token is of a change stream that has ended")
	}
	return position, nil
}
