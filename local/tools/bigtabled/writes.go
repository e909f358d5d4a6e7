package main

import (
	"context"
	"time"

	btapb "cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	btpb "cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

const (
	mutateRows = "/google.bigtable.v2.Bigtable/MutateRows"
	generate   = "/google.bigtable.v2.Bigtable/GenerateInitialChangeStreamPartitions"
	read       = "/google.bigtable.v2.Bigtable/ReadChangeStream"
)

const user = btpb.ReadChangeStreamResponse_DataChange_USER

// unary lets a call pass and records what it did to a row of a table with a change stream.
func (t *tables) unary(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	switch request := request.(type) {
	case *btpb.MutateRowRequest:
		return t.write(ctx, request, request.GetTableName(), request.GetMutations(), handle, func(any) (row []byte, done []*btpb.Mutation) {
			return request.GetRowKey(), request.GetMutations()
		})
	case *btpb.CheckAndMutateRowRequest:
		both := append(request.GetTrueMutations()[:len(request.GetTrueMutations()):len(request.GetTrueMutations())], request.GetFalseMutations()...)
		return t.write(ctx, request, request.GetTableName(), both, handle, func(answer any) (row []byte, done []*btpb.Mutation) {
			if answer.(*btpb.CheckAndMutateRowResponse).GetPredicateMatched() {
				return request.GetRowKey(), request.GetTrueMutations()
			}
			return request.GetRowKey(), request.GetFalseMutations()
		})
	case *btpb.ReadModifyWriteRowRequest:
		return t.write(ctx, request, request.GetTableName(), nil, handle, func(answer any) (row []byte, done []*btpb.Mutation) {
			return request.GetRowKey(), cellsOf(answer.(*btpb.ReadModifyWriteRowResponse).GetRow())
		})
	case *btapb.CreateTableRequest, *btapb.ModifyColumnFamiliesRequest, *btapb.GetTableRequest, *btapb.UpdateTableRequest,
		*btapb.DropRowRangeRequest, *btapb.DeleteTableRequest:
		return t.admin(ctx, request, handle)
	}
	return handle(ctx, request)
}

// write lets one row's write pass under the lock of its table's feed; did tells from the answer what was done.
func (t *tables) write(
	ctx context.Context, request any, name string, mutations []*btpb.Mutation, handle grpc.UnaryHandler,
	did func(answer any) ([]byte, []*btpb.Mutation),
) (any, error) {
	f := t.feed(name)
	if f == nil {
		return handle(ctx, request)
	}
	families := t.families(name)
	f.writing.Lock()
	defer f.writing.Unlock()
	stamp(mutations)
	answer, err := handle(ctx, request)
	if err == nil {
		row, done := did(answer)
		f.wrote(row, done, families)
	}
	return answer, err
}

// wrote records a write of a row; the caller holds writing.
func (f *feed) wrote(row []byte, mutations []*btpb.Mutation, families []string) {
	told := asStreamed(mutations, families)
	f.cells.apply(string(row), told)
	f.record(user, row, told)
}

// stream answers the calls of change streams, records bulk writes, and lets everything else pass.
func (t *tables) stream(server any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	switch info.FullMethod {
	case mutateRows:
		return t.bulk(server, ss, handle)
	case generate:
		return t.generate(ss)
	case read:
		return t.read(ss)
	}
	return handle(server, ss)
}

// bulkStream keeps back the answers of a bulk write, so that a slow client does not hold the feed's lock.
type bulkStream struct {
	grpc.ServerStream
	tables   *tables
	feed     *feed
	families []string
	request  *btpb.MutateRowsRequest
	answers  []*btpb.MutateRowsResponse
}

func (t *tables) bulk(server any, ss grpc.ServerStream, handle grpc.StreamHandler) error {
	held := &bulkStream{ServerStream: ss, tables: t}
	if err := held.run(server, handle); err != nil {
		return err
	}
	for _, answer := range held.answers {
		if err := ss.SendMsg(answer); err != nil {
			return err
		}
	}
	return nil
}

func (b *bulkStream) run(server any, handle grpc.StreamHandler) error {
	defer func() {
		if b.feed != nil {
			b.feed.writing.Unlock()
		}
	}()
	err := handle(server, b)
	if b.feed == nil {
		return err
	}
	for _, answer := range b.answers {
		for _, one := range answer.GetEntries() {
			if codes.Code(one.GetStatus().GetCode()) == codes.OK {
				entry := b.request.GetEntries()[one.GetIndex()]
				b.feed.wrote(entry.GetRowKey(), entry.GetMutations(), b.families)
			}
		}
	}
	return err
}

// RecvMsg takes the request on its way in, and the lock with it.
func (b *bulkStream) RecvMsg(message any) error {
	if err := b.ServerStream.RecvMsg(message); err != nil {
		return err
	}
	request, ok := message.(*btpb.MutateRowsRequest)
	if !ok || b.feed != nil {
		return nil
	}
	f := b.tables.feed(request.GetTableName())
	if f == nil {
		return nil
	}
	b.request, b.families = request, b.tables.families(request.GetTableName())
	for _, entry := range request.GetEntries() {
		stamp(entry.GetMutations())
	}
	f.writing.Lock()
	b.feed = f
	return nil
}

// SendMsg keeps an answer until the lock is free again.
func (b *bulkStream) SendMsg(message any) error {
	answer, ok := message.(*btpb.MutateRowsResponse)
	if !ok || b.feed == nil {
		return b.ServerStream.SendMsg(message)
	}
	b.answers = append(b.answers, answer)
	return nil
}

// stamp puts the time in place of "the server's time", as a change stream tells the time that the server took.
func stamp(mutations []*btpb.Mutation) {
	now := time.Now().UnixMilli() * 1000
	for _, one := range mutations {
		if set := one.GetSetCell(); set != nil && set.GetTimestampMicros() == -1 {
			set.TimestampMicros = now
		}
	}
}

// asStreamed returns mutations as a change stream tells them: the deletion of a row is one of each of its families.
func asStreamed(mutations []*btpb.Mutation, families []string) []*btpb.Mutation {
	told := make([]*btpb.Mutation, 0, len(mutations))
	for _, one := range mutations {
		if one.GetDeleteFromRow() == nil {
			told = append(told, one)
			continue
		}
		for _, family := range families {
			told = append(told, &btpb.Mutation{Mutation: &btpb.Mutation_DeleteFromFamily_{
				DeleteFromFamily: &btpb.Mutation_DeleteFromFamily{FamilyName: family},
			}})
		}
	}
	return told
}

// cellsOf returns the writes that leave a row's cells as they are in an answer.
func cellsOf(row *btpb.Row) []*btpb.Mutation {
	var told []*btpb.Mutation
	for _, family := range row.GetFamilies() {
		for _, column := range family.GetColumns() {
			for _, cell := range column.GetCells() {
				told = append(told, &btpb.Mutation{Mutation: &btpb.Mutation_SetCell_{SetCell: &btpb.Mutation_SetCell{
					FamilyName:      family.GetName(),
					ColumnQualifier: column.GetQualifier(),
					TimestampMicros: cell.GetTimestampMicros(),
					Value:           cell.GetValue(),
				}}})
			}
		}
	}
	return told
}
