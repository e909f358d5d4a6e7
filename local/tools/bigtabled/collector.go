package main

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	btapb "cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	btpb "cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc"
)

const (
	// collectorPass is how often rows are looked at for cells that the test server's collector took.
	collectorPass = time.Second
	// rowsAtOnce is how many rows are read under the feed's lock.
	rowsAtOnce = 200
	// lookSeconds bounds one such reading.
	lookSeconds = 5 * time.Second
)

// column is where cells stand in a row.
type column struct{ family, qualifier string }

// inventory holds the timestamps of the cells that each row should have by the records.
type inventory map[string]map[column][]int64

// apply follows mutations as a change stream tells them.
func (i inventory) apply(row string, mutations []*btpb.Mutation) {
	for _, mutation := range mutations {
		switch one := mutation.GetMutation().(type) {
		case *btpb.Mutation_SetCell_:
			i.put(row, column{one.SetCell.GetFamilyName(), string(one.SetCell.GetColumnQualifier())}, one.SetCell.GetTimestampMicros())
		case *btpb.Mutation_DeleteFromColumn_:
			from := one.DeleteFromColumn
			begin, end := from.GetTimeRange().GetStartTimestampMicros(), from.GetTimeRange().GetEndTimestampMicros()
			i.take(row, column{from.GetFamilyName(), string(from.GetColumnQualifier())}, func(at int64) bool {
				return at >= begin && (end == 0 || at < end)
			})
		case *btpb.Mutation_DeleteFromFamily_:
			for where := range i[row] {
				if where.family == one.DeleteFromFamily.GetFamilyName() {
					i.take(row, where, func(int64) bool { return true })
				}
			}
		}
	}
}

func (i inventory) put(row string, where column, at int64) {
	if i[row] == nil {
		i[row] = map[column][]int64{}
	}
	if !slices.Contains(i[row][where], at) {
		i[row][where] = append(i[row][where], at)
	}
}

func (i inventory) take(row string, where column, gone func(at int64) bool) {
	if i[row] == nil {
		return
	}
	i[row][where] = slices.DeleteFunc(i[row][where], gone)
	if len(i[row][where]) == 0 {
		delete(i[row], where)
	}
	if len(i[row]) == 0 {
		delete(i, row)
	}
}

// drop forgets the rows of a dropped range.
func (i inventory) drop(request *btapb.DropRowRangeRequest) {
	for row := range i {
		if request.GetDeleteAllDataFromTable() || strings.HasPrefix(row, string(request.GetRowKeyPrefix())) {
			delete(i, row)
		}
	}
}

// suspects returns the rows that a collector may have touched: several cells in a column, or cells above their age.
func (i inventory) suspects(ages map[string]time.Duration) []string {
	now := time.Now()
	var rows []string
	for row, columns := range i {
		for where, stamps := range columns {
			age, ages := ages[where.family]
			if len(stamps) > 1 || (ages && slices.Min(stamps) < now.Add(-age).UnixMicro()) {
				rows = append(rows, row)
				break
			}
		}
	}
	return rows
}

// collect records for ever what the test server's garbage collector takes from tables with a change stream.
//
// The collector is out of reach, so its work is found by comparing what rows should hold with what they hold.
func (t *tables) collect(connection *grpc.ClientConn) {
	client := btpb.NewBigtableClient(connection)
	for range time.Tick(collectorPass) {
		t.mu.Lock()
		feeds := map[string]*feed{}
		for name, one := range t.known {
			if one.feed != nil {
				feeds[name] = one.feed
			}
		}
		t.mu.Unlock()
		for name, f := range feeds {
			f.writing.Lock()
			rows := f.cells.suspects(t.aged(name))
			f.writing.Unlock()
			for batch := range slices.Chunk(rows, rowsAtOnce) {
				f.look(client, name, batch)
			}
		}
	}
}

// look compares rows with the inventory and records what is gone. A reading that fails is left to the next pass.
func (f *feed) look(client btpb.BigtableClient, name string, rows []string) {
	f.writing.Lock()
	defer f.writing.Unlock()
	there, err := stamps(client, name, rows)
	if err != nil {
		return
	}
	for _, row := range rows {
		var taken []*btpb.Mutation
		for where, expected := range maps.Clone(f.cells[row]) {
			for _, at := range slices.Clone(expected) {
				if slices.Contains(there[row][where], at) {
					continue
				}
				f.cells.take(row, where, func(stamp int64) bool { return stamp == at })
				taken = append(taken, deletion(where, at))
			}
		}
		f.record(btpb.ReadChangeStreamResponse_DataChange_GARBAGE_COLLECTION, []byte(row), taken)
	}
}

func deletion(where column, at int64) *btpb.Mutation {
	return &btpb.Mutation{Mutation: &btpb.Mutation_DeleteFromColumn_{DeleteFromColumn: &btpb.Mutation_DeleteFromColumn{
		FamilyName:      where.family,
		ColumnQualifier: []byte(where.qualifier),
		TimeRange:       &btpb.TimestampRange{StartTimestampMicros: at, EndTimestampMicros: at + 1},
	}}}
}

// stamps reads the timestamps of the rows' cells.
func stamps(client btpb.BigtableClient, name string, rows []string) (inventory, error) {
	request := &btpb.ReadRowsRequest{
		TableName: name,
		Rows:      &btpb.RowSet{},
		Filter:    &btpb.RowFilter{Filter: &btpb.RowFilter_StripValueTransformer{StripValueTransformer: true}},
	}
	for _, row := range rows {
		request.Rows.RowKeys = append(request.Rows.RowKeys, []byte(row))
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookSeconds)
	defer cancel()
	answers, err := client.ReadRows(ctx, request)
	if err != nil {
		return nil, err
	}
	found := inventory{}
	row, where := "", column{}
	for {
		answer, err := answers.Recv()
		if err == io.EOF {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		for _, chunk := range answer.GetChunks() {
			if len(chunk.GetRowKey()) > 0 {
				row = string(chunk.GetRowKey())
			}
			if chunk.GetFamilyName() != nil {
				where.family = chunk.GetFamilyName().GetValue()
			}
			if chunk.GetQualifier() != nil {
				where.qualifier = string(chunk.GetQualifier().GetValue())
			}
			found.put(row, where, chunk.GetTimestampMicros())
		}
	}
}
