package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	btapb "cloud.google.com/go/bigtable/admin/apiv2/adminpb"
	btpb "cloud.google.com/go/bigtable/apiv2/bigtablepb"
	"google.golang.org/grpc"
)

// table is what the interceptors know of a table: its families, its first splits, and its feed if it has a change stream.
type table struct {
	families map[string]*btapb.GcRule
	splits   []string
	feed     *feed
}

// tables are all tables of the server, as its admin calls told.
type tables struct {
	bounds bounds
	mu     sync.Mutex
	known  map[string]*table
}

func newTables(limits bounds) *tables {
	return &tables{bounds: limits, known: map[string]*table{}}
}

// feed returns the change feed of a table, nil for one without change stream.
func (t *tables) feed(name string) *feed {
	t.mu.Lock()
	defer t.mu.Unlock()
	if found := t.known[name]; found != nil {
		return found.feed
	}
	return nil
}

func (t *tables) families(name string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	if found := t.known[name]; found != nil {
		for family := range found.families {
			names = append(names, family)
		}
	}
	slices.Sort(names)
	return names
}

// admin lets a call of the table admin API pass and takes note of what it changed.
func (t *tables) admin(ctx context.Context, request any, handle grpc.UnaryHandler) (any, error) {
	answer, err := handle(ctx, request)
	if err != nil {
		return answer, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch request := request.(type) {
	case *btapb.CreateTableRequest:
		t.created(request)
		t.describe(answer)
	case *btapb.ModifyColumnFamiliesRequest:
		t.modified(request)
		t.describe(answer)
	case *btapb.GetTableRequest:
		t.describe(answer)
	case *btapb.UpdateTableRequest:
		for _, path := range request.GetUpdateMask().GetPaths() {
			if strings.HasPrefix(path, "change_stream_config") {
				t.watch(request.GetTable().GetName(), request.GetTable().GetChangeStreamConfig())
			}
		}
	case *btapb.DropRowRangeRequest:
		// Real change streams tell nothing of dropped ranges either.
		if found := t.known[request.GetName()]; found != nil && found.feed != nil {
			found.feed.writing.Lock()
			found.feed.cells.drop(request)
			found.feed.writing.Unlock()
		}
	case *btapb.DeleteTableRequest:
		t.watch(request.GetName(), nil)
		delete(t.known, request.GetName())
	}
	return answer, nil
}

func (t *tables) created(request *btapb.CreateTableRequest) {
	name := request.GetParent() + "/tables/" + request.GetTableId()
	made := &table{families: map[string]*btapb.GcRule{}}
	for family, settings := range request.GetTable().GetColumnFamilies() {
		made.families[family] = settings.GetGcRule()
	}
	for _, split := range request.GetInitialSplits() {
		made.splits = append(made.splits, string(split.GetKey()))
	}
	slices.Sort(made.splits)
	t.known[name] = made
	t.watch(name, request.GetTable().GetChangeStreamConfig())
}

func (t *tables) modified(request *btapb.ModifyColumnFamiliesRequest) {
	found := t.known[request.GetName()]
	if found == nil {
		return
	}
	for _, one := range request.GetModifications() {
		switch {
		case one.GetDrop():
			delete(found.families, one.GetId())
		case one.GetCreate() != nil:
			found.families[one.GetId()] = one.GetCreate().GetGcRule()
		case one.GetUpdate() != nil:
			found.families[one.GetId()] = one.GetUpdate().GetGcRule()
		}
	}
}

// watch sets a table's change stream, or ends it when there is none in the settings.
func (t *tables) watch(name string, settings *btapb.ChangeStreamConfig) {
	found := t.known[name]
	if found == nil {
		return
	}
	retention := settings.GetRetentionPeriod().AsDuration()
	switch {
	case retention <= 0 && found.feed != nil:
		close(found.feed.closed)
		found.feed = nil
	case retention > 0 && found.feed == nil:
		found.feed = newFeed(retention, t.bounds)
	case retention > 0:
		found.feed.mu.Lock()
		found.feed.retention = retention
		found.feed.mu.Unlock()
	}
}

// describe adds what the test server forgets.
func (t *tables) describe(answer any) {
	described, ok := answer.(*btapb.Table)
	if !ok {
		return
	}
	if found := t.known[described.GetName()]; found != nil && found.feed != nil {
		found.feed.mu.Lock()
		described.ChangeStreamConfig = &btapb.ChangeStreamConfig{RetentionPeriod: durationOf(found.feed.retention)}
		found.feed.mu.Unlock()
	}
}

// partitions returns the row ranges between a table's splits.
func (t *tables) partitions(name string) []*btpb.StreamPartition {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := t.known[name]
	if found == nil {
		return nil
	}
	var ranges []*btpb.StreamPartition
	begin := ""
	for _, split := range append(slices.Clone(found.splits), "") {
		ranges = append(ranges, &btpb.StreamPartition{RowRange: &btpb.RowRange{
			StartKey: &btpb.RowRange_StartKeyClosed{StartKeyClosed: []byte(begin)},
			EndKey:   &btpb.RowRange_EndKeyOpen{EndKeyOpen: []byte(split)},
		}})
		begin = split
	}
	return ranges
}

// aged returns the families whose rule takes cells by age, with that age.
func (t *tables) aged(name string) map[string]time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	ages := map[string]time.Duration{}
	if found := t.known[name]; found != nil {
		for family, rule := range found.families {
			if age := youngest(rule); age > 0 {
				ages[family] = age
			}
		}
	}
	return ages
}

func youngest(rule *btapb.GcRule) time.Duration {
	age := rule.GetMaxAge().AsDuration()
	for _, inner := range append(rule.GetUnion().GetRules(), rule.GetIntersection().GetRules()...) {
		if other := youngest(inner); other > 0 && (age == 0 || other < age) {
			age = other
		}
	}
	return age
}
