// The kafka-go client against a server: `kafka_go ADDRESS [CASE...]`.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	. "mainstem/compat/cases"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
)

var client *kafka.Client

func deadline() context.Context {
	ctx, _ := context.WithTimeout(context.Background(), 20*time.Second) //nolint:govet // ends with the case
	return ctx
}

func topic(partitions int) string {
	name := Fresh("kafkago")
	made := Must(client.CreateTopics(deadline(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: partitions, ReplicationFactor: 1}}}))
	Check(made.Errors[name])
	Eventually("topic has a leader", func() bool {
		known := Must(client.Metadata(deadline(), &kafka.MetadataRequest{Topics: []string{name}}))
		ready := len(known.Topics) == 1 && len(known.Topics[0].Partitions) == partitions
		for _, partition := range known.Topics[0].Partitions {
			ready = ready && partition.Error == nil && partition.Leader.Host != ""
		}
		return ready && end(name, 0, nil) == nil
	})
	return name
}

// end sets the offset after the last record.
func end(name string, partition int, offset *int64) error {
	listed, err := client.ListOffsets(deadline(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{name: {kafka.LastOffsetOf(partition)}}})
	if err == nil {
		err = listed.Topics[name][0].Error
	}
	if err == nil && offset != nil {
		*offset = listed.Topics[name][0].LastOffset
	}
	return err
}

func produce(name string, acks kafka.RequiredAcks, codec kafka.Compression, values ...string) int64 {
	var records []kafka.Record
	for _, value := range values {
		records = append(records, kafka.Record{Key: kafka.NewBytes([]byte("key")), Value: kafka.NewBytes([]byte(value)), Headers: []kafka.Header{{Key: "h", Value: []byte("1")}}})
	}
	produced := Must(client.Produce(deadline(), &kafka.ProduceRequest{Topic: name, RequiredAcks: acks, Compression: codec, Records: kafka.NewRecordReader(records...)}))
	Check(produced.Error)
	return produced.BaseOffset
}

func fetch(name string, offset int64) []string {
	fetched := Must(client.Fetch(deadline(), &kafka.FetchRequest{Topic: name, Offset: offset, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 2 * time.Second}))
	Check(fetched.Error)
	var values []string
	for {
		record, err := fetched.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return values
		}
		Check(err)
		var value bytes.Buffer
		Must(value.ReadFrom(record.Value))
		values = append(values, value.String())
	}
}

func reader(config kafka.ReaderConfig) *kafka.Reader {
	config.Brokers = []string{Address()}
	config.MaxWait = 500 * time.Millisecond
	return kafka.NewReader(config)
}

func readAll(from *kafka.Reader, count int) string {
	var values []string
	for range count {
		values = append(values, string(Must(from.ReadMessage(deadline())).Value))
	}
	return strings.Join(values, " ")
}

func main() {
	client = &kafka.Client{Addr: kafka.TCP(Address()), Timeout: 20 * time.Second}
	Add("client-fetch", func() {
		name := topic(1)
		produce(name, kafka.RequireAll, 0, "a", "b", "c")
		Same(fmt.Sprint(fetch(name, 0)), "[a b c]", "from the beginning")
		Same(fmt.Sprint(fetch(name, 3)), "[]", "at the end")
	})
	for codec, name := range map[kafka.Compression]string{compress.Gzip: "gzip", compress.Snappy: "snappy", compress.Lz4: "lz4", compress.Zstd: "zstd"} {
		Add("produce-fetch-"+name, func() {
			name := topic(1)
			produce(name, kafka.RequireAll, codec, "a", "b")
			Same(fmt.Sprint(fetch(name, 0)), "[a b]", "values")
		})
	}
	Add("acks-1-then-the-end", func() {
		name := topic(1)
		for range 20 {
			var offset int64
			base := produce(name, kafka.RequireOne, 0, "x")
			Check(end(name, 0, &offset))
			Same(offset, base+1, "end")
		}
	})
	Add("writer-and-reader", func() {
		name := topic(1)
		writer := &kafka.Writer{Addr: kafka.TCP(Address()), Topic: name, BatchTimeout: 10 * time.Millisecond, RequiredAcks: kafka.RequireOne}
		Check(writer.WriteMessages(deadline(), kafka.Message{Value: []byte("a")}, kafka.Message{Value: []byte("b")}))
		Check(writer.Close())
		from := reader(kafka.ReaderConfig{Topic: name})
		defer from.Close()
		Same(readAll(from, 2), "a b", "values")
		Check(from.SetOffset(1))
		Same(readAll(from, 1), "b", "after the seek")
	})
	Add("group-commits-survive", func() {
		name, group := topic(1), Fresh("group")
		produce(name, kafka.RequireAll, 0, "a", "b", "c")
		first := reader(kafka.ReaderConfig{Topic: name, GroupID: group, StartOffset: kafka.FirstOffset})
		Same(readAll(first, 2), "a b", "the first member")
		Check(first.Close())
		second := reader(kafka.ReaderConfig{Topic: name, GroupID: group, StartOffset: kafka.FirstOffset})
		defer second.Close()
		Same(readAll(second, 1), "c", "the next member")
	})
	Add("admin-elect-leaders", func() {
		name := topic(1)
		elected := Must(client.ElectLeaders(deadline(), &kafka.ElectLeadersRequest{Topic: name, Partitions: []int{0}, Timeout: 5 * time.Second}))
		Same(errors.Is(elected.PartitionResults[0].Error, kafka.Error(84)), true, fmt.Sprint("not needed: ", elected.PartitionResults[0].Error))
	})
	Add("admin-reassignments", func() {
		name := topic(1)
		listed := Must(client.ListPartitionReassignments(deadline(), &kafka.ListPartitionReassignmentsRequest{Topics: map[string]kafka.ListPartitionReassignmentsRequestTopic{name: {PartitionIndexes: []int{0}}}, Timeout: 5 * time.Second}))
		Check(listed.Error)
		Same(len(listed.Topics), 0, "under way")
		altered := Must(client.AlterPartitionReassignments(deadline(), &kafka.AlterPartitionReassignmentsRequest{Topic: name, Assignments: []kafka.AlterPartitionReassignmentsRequestAssignment{{PartitionID: 0, BrokerIDs: []int{2}}}, Timeout: 5 * time.Second}))
		Same(errors.Is(altered.PartitionResults[0].Error, kafka.InvalidReplicaAssignment), true, fmt.Sprint("a broker that is not there: ", altered.PartitionResults[0].Error))
	})
	Add("admin-describe-acls-without-an-authorizer", func() {
		described := Must(client.DescribeACLs(deadline(), &kafka.DescribeACLsRequest{Filter: kafka.ACLFilter{ResourceTypeFilter: kafka.ResourceTypeAny, ResourcePatternTypeFilter: kafka.PatternTypeAny, Operation: kafka.ACLOperationTypeAny, PermissionType: kafka.ACLPermissionTypeAny}}))
		Same(errors.Is(described.Error, kafka.SecurityDisabled), true, fmt.Sprint("refused: ", described.Error))
	})
	Add("admin-describe-quotas-and-users", func() {
		quotas := Must(client.DescribeClientQuotas(deadline(), &kafka.DescribeClientQuotasRequest{Components: []kafka.DescribeClientQuotasRequestComponent{{EntityType: "client-id", MatchType: 2}}}))
		Check(quotas.Error)
		Same(len(quotas.Entries), 0, "quotas")
		users := Must(client.DescribeUserScramCredentials(deadline(), &kafka.DescribeUserScramCredentialsRequest{}))
		Check(users.Error)
		Same(len(users.Results), 0, "users")
	})
	Main()
}
