// The franz-go client against a server: `franz ADDRESS [CASE...]`.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	. "mainstem/compat/cases"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const hour = time.Hour

var adm *kadm.Client

func deadline() context.Context {
	ctx, _ := context.WithTimeout(context.Background(), 20*time.Second) //nolint:govet // ends with the case
	return ctx
}

func client(options ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{kgo.SeedBrokers(Address()), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.AllowAutoTopicCreation(), kgo.ProducerBatchCompression(kgo.NoCompression())}
	return Must(kgo.NewClient(append(append(base, login()...), options...)...))
}

func login() []kgo.Opt {
	var options []kgo.Opt
	if tls := TLS(); tls != nil {
		options = append(options, kgo.DialTLSConfig(tls))
	}
	password := scram.Auth{User: Login["user"], Pass: Login["password"]}
	switch Login["mechanism"] {
	case "PLAIN":
		options = append(options, kgo.SASL(plain.Auth{User: Login["user"], Pass: Login["password"]}.AsMechanism()))
	case "SCRAM-SHA-256":
		options = append(options, kgo.SASL(password.AsSha256Mechanism()))
	case "SCRAM-SHA-512":
		options = append(options, kgo.SASL(password.AsSha512Mechanism()))
	case "OAUTHBEARER":
		options = append(options, kgo.SASL(oauth.Auth{Token: Login["token"]}.AsMechanism()))
	}
	return options
}

func topic(partitions int32, configs map[string]*string) string {
	name := Fresh("franz")
	Check(Must(adm.CreateTopic(deadline(), partitions, 1, configs, name)).Err)
	Eventually("topic shows", func() bool {
		return len(Must(adm.ListTopics(deadline(), name))[name].Partitions) == int(partitions)
	})
	// Apache Kafka says "topic exists" before its partitions can be written to.
	Must(adm.ListEndOffsets(deadline(), name))
	return name
}

func send(records []*kgo.Record, options ...kgo.Opt) kgo.ProduceResults {
	producer := client(options...)
	defer producer.Close()
	results := producer.ProduceSync(deadline(), records...)
	Check(results.FirstErr())
	return results
}

func sendValues(name string, values ...string) {
	var records []*kgo.Record
	for _, value := range values {
		records = append(records, &kgo.Record{Topic: name, Value: []byte(value)})
	}
	send(records)
}

func take(consumer *kgo.Client, count int) []*kgo.Record {
	var records []*kgo.Record
	ctx := deadline()
	for len(records) < count {
		fetches := consumer.PollRecords(ctx, count-len(records))
		Check(fetches.Err())
		records = append(records, fetches.Records()...)
	}
	return records
}

func read(name string, count int, partition int32, offset int64) []*kgo.Record {
	where := map[string]map[int32]kgo.Offset{name: {partition: kgo.NewOffset().At(offset)}}
	consumer := client(kgo.ConsumePartitions(where))
	defer consumer.Close()
	return take(consumer, count)
}

func values(records []*kgo.Record) string {
	var all []string
	for _, record := range records {
		all = append(all, string(record.Value))
	}
	return strings.Join(all, ",")
}

func codec(name string) {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	where := topic(1, nil)
	var records []*kgo.Record
	for i := range 200 {
		records = append(records, &kgo.Record{Topic: where, Value: []byte(strings.Repeat(fmt.Sprint(i), 300))})
	}
	expected := values(records)
	send(records, kgo.ProducerBatchCompression(codecs[name]), kgo.ProducerLinger(20*time.Millisecond))
	Same(values(read(where, 200, 0, 0)), expected, "values")
}

func produceCases() {
	for _, name := range Codecs {
		Add("produce-"+name, func() { codec(name) })
	}
	Add("headers", func() {
		name := topic(1, nil)
		headers := []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "empty", Value: []byte{}}, {Key: "null"}, {Key: "ünï", Value: []byte("välue")}}
		send([]*kgo.Record{{Topic: name, Value: []byte("x"), Headers: headers}})
		Same(fmt.Sprint(read(name, 1, 0, 0)[0].Headers), fmt.Sprint(headers), "headers")
	})
	Add("null-key", func() {
		name := topic(1, nil)
		send([]*kgo.Record{{Topic: name, Value: []byte("x")}, {Topic: name, Key: []byte{}, Value: []byte("y")}})
		records := read(name, 2, 0, 0)
		Same([]bool{records[0].Key == nil, records[1].Key == nil}, []bool{true, false}, "null")
	})
	Add("null-value", func() {
		name := topic(1, nil)
		send([]*kgo.Record{{Topic: name, Key: []byte("k")}})
		Same(read(name, 1, 0, 0)[0].Value == nil, true, "null")
	})
	Add("empty-value", func() {
		name := topic(1, nil)
		sendValues(name, "", "")
		record := read(name, 2, 0, 0)[1]
		Same([]bool{record.Value != nil, len(record.Value) == 0}, []bool{true, true}, "empty, not null")
	})
	Add("idempotent-producer", func() {
		name := topic(3, nil)
		var records []*kgo.Record
		for i := range 3000 {
			records = append(records, &kgo.Record{Topic: name, Partition: int32(i % 3), Value: fmt.Append(nil, i)})
		}
		send(records, kgo.ProducerBatchMaxBytes(1000), kgo.MaxBufferedRecords(100))
		for p := range int32(3) {
			var expected []string
			for i := int(p); i < 3000; i += 3 {
				expected = append(expected, fmt.Sprint(i))
			}
			Same(values(read(name, 1000, p, 0)), strings.Join(expected, ","), "values")
		}
		described := Must(adm.DescribeProducers(deadline(), kadm.TopicsSet{name: {0: {}}}))[name].Partitions[0].ActiveProducers
		Same(described.Sorted()[0].LastSequence, int32(999), "last sequence")
	})
	Add("not-idempotent", func() {
		name := topic(1, nil)
		for _, acks := range []kgo.Acks{kgo.NoAck(), kgo.LeaderAck()} {
			send([]*kgo.Record{{Topic: name, Value: []byte("x")}}, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks))
			time.Sleep(100 * time.Millisecond) // acks=0: the close must not overtake the request
		}
		Same(values(read(name, 2, 0, 0)), "x,x", "values")
	})
	Add("explicit-partition", func() {
		name := topic(4, nil)
		for _, partition := range []int32{3, 1} {
			sent := Must(send([]*kgo.Record{{Topic: name, Partition: partition, Value: []byte("p")}}).First())
			Same([]any{sent.Partition, sent.Offset}, []any{partition, int64(0)}, "where")
			Same(values(read(name, 1, partition, 0)), "p", "values")
		}
	})
	Add("record-timestamp", func() {
		name := topic(1, nil)
		stamp := time.UnixMilli(time.Now().Add(-5 * hour).UnixMilli())
		send([]*kgo.Record{{Topic: name, Value: []byte("x"), Timestamp: stamp}})
		record := read(name, 1, 0, 0)[0]
		Same([]any{record.Timestamp.UnixMilli(), record.Attrs.TimestampType()}, []any{stamp.UnixMilli(), int8(0)}, "timestamp")
	})
	Add("too-large-refused", func() {
		name := topic(1, map[string]*string{"max.message.bytes": kadm.StringPtr("1000")})
		producer := client()
		defer producer.Close()
		err := producer.ProduceSync(deadline(), &kgo.Record{Topic: name, Value: make([]byte, 5000)}).FirstErr()
		Same(errors.Is(err, kerr.MessageTooLarge), true, fmt.Sprint(err))
	})
	Add("auto-create-topic", func() {
		name := Fresh("auto")
		sendValues(name, "x")
		Same(values(read(name, 1, 0, 0)), "x", "values")
	})
}

func consumeCases() {
	Add("consume-earliest", func() {
		name := topic(1, nil)
		sendValues(name, "a", "b")
		consumer := client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		defer consumer.Close()
		Same(values(take(consumer, 2)), "a,b", "values")
	})
	Add("consume-latest", func() {
		name := topic(1, nil)
		sendValues(name, "old")
		consumer := client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
		defer consumer.Close()
		short, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		Same(consumer.PollFetches(short).NumRecords(), 0, "records before the new one")
		sendValues(name, "new")
		Same(values(take(consumer, 1)), "new", "values")
	})
	Add("consume-from-offset", func() {
		name := topic(1, nil)
		var all []string
		for i := range 100 {
			all = append(all, fmt.Sprint(i))
		}
		sendValues(name, all...)
		Same(values(read(name, 3, 0, 57)), "57,58,59", "values")
	})
	Add("consume-from-time", func() {
		name := topic(1, nil)
		base := time.Now().Add(-hour)
		for i := range 6 {
			send([]*kgo.Record{{Topic: name, Value: fmt.Append(nil, i), Timestamp: base.Add(time.Duration(i) * time.Second)}})
		}
		offset := kgo.NewOffset().AfterMilli(base.Add(3500 * time.Millisecond).UnixMilli())
		consumer := client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(offset))
		defer consumer.Close()
		Same(values(take(consumer, 2)), "4,5", "values")
	})
	Add("offset-out-of-range-resets", func() {
		name := topic(1, nil)
		sendValues(name, "a", "b")
		Same(values(read(name, 2, 0, 500)), "a,b", "values")
	})
}

// member polls until its context ends and remembers what it read.
type member struct {
	client *kgo.Client
	stop   context.CancelFunc
	done   chan struct{}
}

func join(name, group string, seen *sync.Map, options ...kgo.Opt) *member {
	ctx, stop := context.WithCancel(context.Background())
	base := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300 * time.Millisecond)}
	made := &member{client(append(base, options...)...), stop, make(chan struct{})}
	go func() {
		defer close(made.done)
		for ctx.Err() == nil {
			made.client.PollFetches(ctx).EachRecord(func(record *kgo.Record) {
				seen.Store(fmt.Sprint(record.Partition, string(record.Value)), true)
			})
		}
	}()
	return made
}

func (m *member) leave() {
	m.stop()
	<-m.done
	m.client.Close()
}

func shares(group string) []int {
	var sizes []int
	for _, each := range Must(adm.DescribeGroups(deadline(), group))[group].Members {
		if assigned, ok := each.Assigned.AsConsumer(); ok {
			for _, of := range assigned.Topics {
				sizes = append(sizes, len(of.Partitions))
			}
		}
	}
	return sizes
}

func members(options ...kgo.Opt) {
	name, group := topic(4, nil), Fresh("g")
	var seen sync.Map
	fill := func(value string) {
		for p := range int32(4) {
			send([]*kgo.Record{{Topic: name, Partition: p, Value: []byte(value)}})
		}
		Eventually("all "+value+" read", func() bool {
			count := 0
			for p := range 4 {
				if _, there := seen.Load(fmt.Sprint(p, value)); there {
					count++
				}
			}
			return count == 4
		})
	}
	first := join(name, group, &seen, options...)
	Eventually("first has all", func() bool { return fmt.Sprint(shares(group)) == "[4]" })
	second := join(name, group, &seen, options...)
	defer second.leave()
	Eventually("2 each", func() bool { return fmt.Sprint(shares(group)) == "[2 2]" })
	fill("shared")
	first.leave()
	Eventually("second has all", func() bool { return fmt.Sprint(shares(group)) == "[4]" })
	fill("last")
}

func groupWithCommit() (string, string) {
	name, group := topic(1, nil), Fresh("g")
	sendValues(name, "a", "b", "c")
	consumer := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	defer consumer.Close()
	Check(consumer.CommitRecords(deadline(), take(consumer, 2)...))
	return name, group
}

func groupCases() {
	Add("group-join-leave", func() { members(kgo.Balancers(kgo.RangeBalancer())) })
	Add("group-cooperative", func() { members(kgo.Balancers(kgo.CooperativeStickyBalancer())) })
	Add("group-static-member", func() {
		name, group := topic(2, nil), Fresh("g")
		for range 2 {
			var seen sync.Map
			one := join(name, group, &seen, kgo.InstanceID("one"), kgo.SessionTimeout(10*time.Second))
			Eventually("has both", func() bool { return fmt.Sprint(shares(group)) == "[2]" })
			one.leave()
		}
		found := Must(adm.DescribeGroups(deadline(), group))[group].Members
		Same([]any{len(found), *found[0].InstanceID}, []any{1, "one"}, "static member stays")
	})
	Add("group-commits-survive", func() {
		name, group := groupWithCommit()
		consumer := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(name))
		defer consumer.Close()
		Same(values(take(consumer, 1)), "c", "next")
	})
	Add("admin-list-groups", func() {
		_, group := groupWithCommit()
		Same(Must(adm.ListGroups(deadline()))[group].State, "Empty", "state")
	})
	Add("admin-describe-group", func() {
		name, group := topic(2, nil), Fresh("g")
		var seen sync.Map
		one := join(name, group, &seen, kgo.ClientID("who"), kgo.Balancers(kgo.RangeBalancer()))
		defer one.leave()
		Eventually("has both", func() bool { return fmt.Sprint(shares(group)) == "[2]" })
		found := Must(adm.DescribeGroups(deadline(), group))[group]
		Same([]any{found.State, found.Protocol, found.Members[0].ClientID}, []any{"Stable", "range", "who"}, "group")
	})
	Add("admin-delete-group", func() {
		_, group := groupWithCommit()
		Check(Must(adm.DeleteGroups(deadline(), group))[group].Err)
		Same(Must(adm.DeleteGroups(deadline(), group))[group].Err, error(kerr.GroupIDNotFound), "twice")
	})
	Add("admin-group-offsets", func() {
		name, group := groupWithCommit()
		Same(Must(adm.FetchOffsets(deadline(), group))[name][0].At, int64(2), "committed")
		offsets := make(kadm.Offsets)
		offsets.Add(kadm.Offset{Topic: name, Partition: 0, At: 1, LeaderEpoch: 0, Metadata: "wörk"})
		Check(adm.CommitAllOffsets(deadline(), group, offsets))
		kept := Must(adm.FetchOffsets(deadline(), group))[name][0]
		Same([]any{kept.At, kept.LeaderEpoch, kept.Metadata}, []any{int64(1), int32(0), "wörk"}, "changed")
		lag := Must(adm.Lag(deadline(), group))[group]
		Same(lag.Lag[name][0].Lag, int64(2), "lag")
		Must(adm.DeleteOffsets(deadline(), group, kadm.TopicsSet{name: {0: {}}}))
		Same(len(Must(adm.FetchOffsets(deadline(), group))[name]), 0, "deleted")
	})
}

func adminCases() {
	Add("admin-create-topic", func() {
		name := topic(5, map[string]*string{"retention.ms": kadm.StringPtr("60000")})
		expected := map[string]error{name: kerr.TopicAlreadyExists, "no/such": kerr.InvalidTopicException}
		for bad, err := range expected {
			_, got := adm.CreateTopic(deadline(), 1, 1, nil, bad)
			Same(got, err, bad)
		}
		_, got := adm.CreateTopic(deadline(), 1, 3, nil, Fresh("x"))
		Same(got, error(kerr.InvalidReplicationFactor), "replication factor 3")
		made := Must(adm.CreateTopic(deadline(), -1, -1, nil, Fresh("defaults")))
		Same([]any{made.NumPartitions, made.ReplicationFactor}, []any{int32(1), int16(1)}, "defaults")
	})
	Add("admin-describe-topic", func() {
		name := topic(3, nil)
		found := Must(adm.ListTopics(deadline(), name))[name]
		Same([]any{len(found.Partitions), found.Partitions[2].Leader, found.IsInternal, found.ID == kadm.TopicID{}}, []any{3, int32(1), false, false}, "topic")
	})
	Add("admin-delete-topic", func() {
		name := topic(1, nil)
		Must(adm.DeleteTopics(deadline(), name))
		Eventually("gone", func() bool { return !Must(adm.ListTopics(deadline())).Has(name) })
	})
	Add("admin-create-partitions", func() {
		name := topic(2, nil)
		Check(Must(adm.UpdatePartitions(deadline(), 6, name))[name].Err)
		Eventually("6", func() bool { return len(Must(adm.ListTopics(deadline(), name))[name].Partitions) == 6 })
		send([]*kgo.Record{{Topic: name, Partition: 5, Value: []byte("x")}})
	})
	config := func(name, key string) string {
		for _, each := range Must(Must(adm.DescribeTopicConfigs(deadline(), name)).On(name, nil)).Configs {
			if each.Key == key {
				return fmt.Sprint(*each.Value, " ", each.Source)
			}
		}
		return "absent"
	}
	Add("admin-describe-configs", func() {
		name := topic(1, map[string]*string{"retention.ms": kadm.StringPtr("123456")})
		Same(config(name, "retention.ms"), "123456 DYNAMIC_TOPIC_CONFIG", "set")
		Same(config(name, "cleanup.policy"), "delete DEFAULT_CONFIG", "default")
		Same(len(Must(adm.DescribeBrokerConfigs(deadline(), 1))[0].Configs) > 10, true, "broker configs")
	})
	Add("admin-alter-configs", func() {
		name := topic(1, nil)
		change := func(op kadm.IncrementalOp, key, value string) error {
			return Must(adm.AlterTopicConfigs(deadline(), []kadm.AlterConfig{{Op: op, Name: key, Value: &value}}, name))[0].Err
		}
		Check(change(kadm.SetConfig, "retention.ms", "777000"))
		Eventually("set", func() bool { return config(name, "retention.ms") == "777000 DYNAMIC_TOPIC_CONFIG" })
		Check(change(kadm.DeleteConfig, "retention.ms", ""))
		Eventually("default", func() bool { return config(name, "retention.ms") == "604800000 DEFAULT_CONFIG" })
		Same(errors.Is(change(kadm.SetConfig, "no.such", "1"), kerr.InvalidConfig), true, "unknown key refused")
	})
	Add("admin-delete-records", func() {
		name := topic(1, nil)
		sendValues(name, "a", "b", "c", "d")
		before := make(kadm.Offsets)
		before.Add(kadm.Offset{Topic: name, Partition: 0, At: 3})
		Same(Must(adm.DeleteRecords(deadline(), before))[name][0].LowWatermark, int64(3), "low watermark")
		Same(Must(adm.ListStartOffsets(deadline(), name))[name][0].Offset, int64(3), "start")
		Same(values(read(name, 1, 0, 3)), "d", "values")
	})
	Add("admin-offsets-by-time", func() {
		name := topic(1, nil)
		base := time.Now().Add(-hour)
		for _, i := range []int{0, 5, 3} {
			send([]*kgo.Record{{Topic: name, Value: []byte("x"), Timestamp: base.Add(time.Duration(i) * time.Second)}})
		}
		Same(Must(adm.ListStartOffsets(deadline(), name))[name][0].Offset, int64(0), "start")
		Same(Must(adm.ListEndOffsets(deadline(), name))[name][0].Offset, int64(3), "end")
		Same(Must(adm.ListOffsetsAfterMilli(deadline(), base.UnixMilli()+1, name))[name][0].Offset, int64(1), "by time")
		Same(Must(adm.ListMaxTimestampOffsets(deadline(), name))[name][0].Offset, int64(1), "max timestamp")
	})
	Add("admin-describe-cluster", func() {
		found := Must(adm.BrokerMetadata(deadline()))
		Same([]any{len(found.Brokers), found.Controller, fmt.Sprintf("%s:%d", found.Brokers[0].Host, found.Brokers[0].Port)}, []any{1, int32(1), Address()}, "cluster")
	})
	Add("admin-log-dirs", func() {
		name := topic(1, nil)
		sendValues(name, strings.Repeat("x", 1000))
		found := Must(adm.DescribeAllLogDirs(deadline(), kadm.TopicsSet{name: {0: {}}}))
		size := int64(0)
		found.Each(func(dir kadm.DescribedLogDir) { size += dir.Size() })
		Same(size > 1000, true, "size")
	})
}

func main() {
	connection := client()
	adm = kadm.NewClient(connection)
	produceCases()
	shareCases()
	consumeCases()
	groupCases()
	adminCases()
	Main()
}
