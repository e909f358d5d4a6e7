package main

import (
	"bytes"
	"time"

	btpb "cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// defaultHeartbeat is taken where a reader names none.
	defaultHeartbeat = 5 * time.Second
	// chunkBytes is how much of a cell's value one message carries; longer values come in several.
	chunkBytes = 1 << 20
	// sendAtOnce is how many changes are looked at before the reader's cancellation is.
	sendAtOnce = 1000
	// cluster names where changes were made: the test server knows no clusters.
	cluster = "local"
)

func durationOf(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

func micros(at int64) *timestamppb.Timestamp { return timestamppb.New(time.UnixMicro(at)) }

func (t *tables) watched(name string) (*feed, error) {
	if f := t.feed(name); f != nil {
		return f, nil
	}
	return nil, status.Errorf(codes.FailedPrecondition, "table %q has no change stream; set its change_stream_config", name)
}

// generate answers GenerateInitialChangeStreamPartitions.
func (t *tables) generate(ss grpc.ServerStream) error {
	var request btpb.GenerateInitialChangeStreamPartitionsRequest
	if err := ss.RecvMsg(&request); err != nil {
		return err
	}
	if _, err := t.watched(request.GetTableName()); err != nil {
		return err
	}
	for _, partition := range t.partitions(request.GetTableName()) {
		answer := &btpb.GenerateInitialChangeStreamPartitionsResponse{Partition: partition}
		if err := ss.SendMsg(answer); err != nil {
			return err
		}
	}
	return nil
}

// reading is one call of ReadChangeStream.
type reading struct {
	ss        grpc.ServerStream
	feed      *feed
	partition *btpb.StreamPartition
	position  uint64
	until     time.Time // zero: for ever
	heartbeat time.Duration
}

func (t *tables) read(ss grpc.ServerStream) error {
	var request btpb.ReadChangeStreamRequest
	if err := ss.RecvMsg(&request); err != nil {
		return err
	}
	f, err := t.watched(request.GetTableName())
	if err != nil {
		return err
	}
	r := &reading{ss: ss, feed: f, partition: request.GetPartition(), heartbeat: defaultHeartbeat}
	if request.GetHeartbeatDuration() != nil {
		r.heartbeat = request.GetHeartbeatDuration().AsDuration()
	}
	if request.GetEndTime() != nil {
		r.until = request.GetEndTime().AsTime()
	}
	if r.heartbeat < time.Millisecond {
		return status.Error(codes.InvalidArgument, "heartbeat_duration must be positive")
	}
	if r.position, err = r.start(&request); err != nil {
		return err
	}
	return r.run()
}

// start returns where the reading begins: the oldest of its tokens, its start time, or now.
func (r *reading) start(request *btpb.ReadChangeStreamRequest) (uint64, error) {
	if tokens := request.GetContinuationTokens().GetTokens(); len(tokens) > 0 {
		oldest := ^uint64(0)
		for _, one := range tokens {
			position, err := r.feed.position(one.GetToken())
			if err != nil {
				return 0, err
			}
			oldest = min(oldest, position)
		}
		return oldest, nil
	}
	if request.GetStartTime() != nil {
		return r.feed.at(request.GetStartTime().AsTime().UnixMicro())
	}
	position, _ := r.feed.next()
	return position, nil
}

func (r *reading) run() error {
	beat := time.NewTicker(r.heartbeat)
	defer beat.Stop()
	var ended <-chan time.Time
	if !r.until.IsZero() {
		timer := time.NewTimer(time.Until(r.until))
		defer timer.Stop()
		ended = timer.C
	}
	for {
		changes, grown, err := r.feed.after(r.position, sendAtOnce)
		if err != nil {
			return err
		}
		for _, one := range changes {
			if !r.until.IsZero() && one.committed >= r.until.UnixMicro() {
				return r.close()
			}
			r.position++
			if !inside(r.partition.GetRowRange(), one.row) {
				continue
			}
			if err := r.send(one); err != nil {
				return err
			}
		}
		if len(changes) > 0 {
			grown = already
		}
		select {
		case <-r.ss.Context().Done():
			return status.FromContextError(r.ss.Context().Err()).Err()
		case <-r.feed.closed:
			return status.Error(codes.FailedPrecondition, "the table has no change stream any more")
		case <-beat.C:
			if err := r.beat(); err != nil {
				return err
			}
		case <-ended:
			return r.close()
		case <-grown:
		}
	}
}

// already is always ready: there may be more changes to read at once.
var already = func() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

func (r *reading) token() *btpb.StreamContinuationToken {
	return &btpb.StreamContinuationToken{Partition: r.partition, Token: r.feed.token(r.position)}
}

func (r *reading) beat() error {
	_, watermark := r.feed.next()
	return r.ss.SendMsg(&btpb.ReadChangeStreamResponse{StreamRecord: &btpb.ReadChangeStreamResponse_Heartbeat_{
		Heartbeat: &btpb.ReadChangeStreamResponse_Heartbeat{
			ContinuationToken: r.token(), EstimatedLowWatermark: micros(watermark),
		},
	}})
}

// close ends a reading whose end time has come.
func (r *reading) close() error {
	return r.ss.SendMsg(&btpb.ReadChangeStreamResponse{StreamRecord: &btpb.ReadChangeStreamResponse_CloseStream_{
		CloseStream: &btpb.ReadChangeStreamResponse_CloseStream{
			Status: status.New(codes.OK, "").Proto(), ContinuationTokens: []*btpb.StreamContinuationToken{r.token()},
		},
	}})
}

// send sends one change: in one message, or in several where a value is long. Row key and type stand in the first, the
// token in the last.
func (r *reading) send(one change) error {
	next := &btpb.ReadChangeStreamResponse_DataChange{Type: one.kind, RowKey: one.row, CommitTimestamp: micros(one.committed)}
	if one.kind == user {
		next.SourceClusterId = cluster
	}
	for _, mutation := range one.mutations {
		value := mutation.GetSetCell().GetValue()
		if len(value) <= chunkBytes {
			next.Chunks = append(next.Chunks, &btpb.ReadChangeStreamResponse_MutationChunk{Mutation: mutation})
			continue
		}
		for offset := 0; offset < len(value); offset += chunkBytes {
			end := min(offset+chunkBytes, len(value))
			part := proto.Clone(mutation).(*btpb.Mutation)
			part.GetSetCell().Value = value[offset:end]
			next.Chunks = append(next.Chunks, &btpb.ReadChangeStreamResponse_MutationChunk{
				Mutation: part,
				ChunkInfo: &btpb.ReadChangeStreamResponse_MutationChunk_ChunkInfo{
					ChunkedValueSize:   int32(len(value)),
					ChunkedValueOffset: int32(offset),
					LastChunk:          end == len(value),
				},
			})
			if end < len(value) {
				if err := r.data(next); err != nil {
					return err
				}
				next = &btpb.ReadChangeStreamResponse_DataChange{Type: btpb.ReadChangeStreamResponse_DataChange_CONTINUATION}
			}
		}
	}
	next.Done, next.Token = true, r.feed.token(r.position)
	next.EstimatedLowWatermark = micros(one.committed)
	return r.data(next)
}

func (r *reading) data(one *btpb.ReadChangeStreamResponse_DataChange) error {
	return r.ss.SendMsg(&btpb.ReadChangeStreamResponse{
		StreamRecord: &btpb.ReadChangeStreamResponse_DataChange_{DataChange: one},
	})
}

// inside tells whether a row is in a partition; one without bounds holds every row.
func inside(bounds *btpb.RowRange, row []byte) bool {
	switch start := bounds.GetStartKey().(type) {
	case *btpb.RowRange_StartKeyClosed:
		if bytes.Compare(row, start.StartKeyClosed) < 0 {
			return false
		}
	case *btpb.RowRange_StartKeyOpen:
		if bytes.Compare(row, start.StartKeyOpen) <= 0 {
			return false
		}
	}
	switch end := bounds.GetEndKey().(type) {
	case *btpb.RowRange_EndKeyOpen:
		return len(end.EndKeyOpen) == 0 || bytes.Compare(row, end.EndKeyOpen) < 0
	case *btpb.RowRange_EndKeyClosed:
		return bytes.Compare(row, end.EndKeyClosed) <= 0
	}
	return true
}
