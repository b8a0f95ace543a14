// The sarama client against a server: `sarama ADDRESS [CASE...]`.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	. "mainstem/compat/cases"

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"
)

const hour = time.Hour

var admin sarama.ClusterAdmin

func config() *sarama.Config {
	made := sarama.NewConfig()
	made.Version = sarama.MaxVersion
	made.Producer.Return.Successes = true
	made.Producer.Partitioner = sarama.NewManualPartitioner
	made.Consumer.Offsets.Initial = sarama.OffsetOldest
	made.Consumer.Offsets.AutoCommit.Enable = false
	made.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	made.Consumer.Return.Errors = true
	login(made)
	return made
}

type tokens string

func (token tokens) Token() (*sarama.AccessToken, error) {
	return &sarama.AccessToken{Token: string(token)}, nil
}

// sarama leaves SCRAM to its users; this is what its examples do.
type scramClient struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

func (client *scramClient) Begin(user, password, authzid string) error {
	made, err := client.hash.NewClient(user, password, authzid)
	if err == nil {
		client.ClientConversation = made.NewConversation()
	}
	return err
}

func login(made *sarama.Config) {
	if tls := TLS(); tls != nil {
		made.Net.TLS.Enable, made.Net.TLS.Config = true, tls
	}
	if Login["mechanism"] == "" {
		return
	}
	sasl := &made.Net.SASL
	sasl.Enable, sasl.Mechanism = true, sarama.SASLMechanism(Login["mechanism"])
	sasl.User, sasl.Password = Login["user"], Login["password"]
	sasl.TokenProvider = tokens(Login["token"])
	hash := scram.SHA256
	if Login["mechanism"] == "SCRAM-SHA-512" {
		hash = scram.SHA512
	}
	sasl.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: hash} }
}

func topic(partitions int32, configs map[string]*string) string {
	name := Fresh("sarama")
	Check(admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: configs}, false))
	Eventually("topic shows", func() bool {
		found := Must(admin.DescribeTopics([]string{name}))[0]
		return found.Err == sarama.ErrNoError && len(found.Partitions) == int(partitions)
	})
	return name
}

func send(with *sarama.Config, messages ...*sarama.ProducerMessage) {
	producer := Must(sarama.NewSyncProducer([]string{Address()}, with))
	defer func() { Check(producer.Close()) }()
	Check(producer.SendMessages(messages))
}

func sendValues(name string, values ...string) {
	var messages []*sarama.ProducerMessage
	for _, value := range values {
		messages = append(messages, &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(value)})
	}
	send(config(), messages...)
}

func take(from <-chan *sarama.ConsumerMessage, count int) []*sarama.ConsumerMessage {
	var messages []*sarama.ConsumerMessage
	late := time.After(20 * time.Second)
	for len(messages) < count {
		select {
		case message := <-from:
			messages = append(messages, message)
		case <-late:
			panic(fmt.Errorf("%d messages, expected %d", len(messages), count))
		}
	}
	return messages
}

func read(name string, count int, partition int32, offset int64) []*sarama.ConsumerMessage {
	consumer := Must(sarama.NewConsumer([]string{Address()}, config()))
	defer consumer.Close()
	part := Must(consumer.ConsumePartition(name, partition, offset))
	defer part.AsyncClose()
	return take(part.Messages(), count)
}

func values(messages []*sarama.ConsumerMessage) string {
	var all []string
	for _, message := range messages {
		all = append(all, string(message.Value))
	}
	return strings.Join(all, ",")
}

func codec(name string) {
	codecs := map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy, "lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
	where := topic(1, nil)
	with := config()
	with.Producer.Compression = codecs[name]
	var messages []*sarama.ProducerMessage
	var expected []string
	for i := range 200 {
		expected = append(expected, strings.Repeat(fmt.Sprint(i), 300))
		messages = append(messages, &sarama.ProducerMessage{Topic: where, Value: sarama.StringEncoder(expected[i])})
	}
	send(with, messages...)
	Same(values(read(where, 200, 0, 0)), strings.Join(expected, ","), "values")
}

func idempotent() {
	name := topic(3, nil)
	with := config()
	with.Producer.Idempotent = true
	with.Producer.RequiredAcks = sarama.WaitForAll
	with.Net.MaxOpenRequests = 1
	with.Producer.Flush.MaxMessages = 20
	var messages []*sarama.ProducerMessage
	for i := range 900 {
		messages = append(messages, &sarama.ProducerMessage{Topic: name, Partition: int32(i % 3), Value: sarama.StringEncoder(fmt.Sprint(i))})
	}
	send(with, messages...)
	for p := range int32(3) {
		var expected []string
		for i := int(p); i < 900; i += 3 {
			expected = append(expected, fmt.Sprint(i))
		}
		Same(values(read(name, 300, p, 0)), strings.Join(expected, ","), "values")
	}
}

func produceCases() {
	for _, name := range Codecs {
		Add("produce-"+name, func() { codec(name) })
	}
	Add("headers", func() {
		name := topic(1, nil)
		headers := []sarama.RecordHeader{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("a"), Value: []byte("2")}, {Key: []byte("empty"), Value: []byte{}}, {Key: []byte("ünï"), Value: []byte("välue")}}
		send(config(), &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder("x"), Headers: headers})
		var got []sarama.RecordHeader
		for _, header := range read(name, 1, 0, 0)[0].Headers {
			got = append(got, *header)
		}
		Same(fmt.Sprint(got), fmt.Sprint(headers), "headers")
	})
	Add("null-key", func() {
		name := topic(1, nil)
		send(config(), &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder("x")}, &sarama.ProducerMessage{Topic: name, Key: sarama.StringEncoder(""), Value: sarama.StringEncoder("y")})
		messages := read(name, 2, 0, 0)
		Same([]bool{messages[0].Key == nil, messages[1].Key == nil}, []bool{true, false}, "null")
	})
	Add("null-value", func() {
		name := topic(1, nil)
		send(config(), &sarama.ProducerMessage{Topic: name, Key: sarama.StringEncoder("k")})
		Same(read(name, 1, 0, 0)[0].Value == nil, true, "null")
	})
	Add("empty-value", func() {
		name := topic(1, nil)
		sendValues(name, "", "")
		message := read(name, 2, 0, 0)[1]
		Same([]bool{message.Value != nil, len(message.Value) == 0}, []bool{true, true}, "empty, not null")
	})
	Add("idempotent-producer", idempotent)
	Add("acks-0-and-1", func() {
		name := topic(1, nil)
		for _, acks := range []sarama.RequiredAcks{sarama.WaitForLocal, sarama.NoResponse} {
			with := config()
			with.Producer.RequiredAcks = acks
			send(with, &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder("x")})
		}
		Same(values(read(name, 2, 0, 0)), "x,x", "values")
	})
	Add("explicit-partition", func() {
		name := topic(4, nil)
		for _, partition := range []int32{3, 1} {
			message := &sarama.ProducerMessage{Topic: name, Partition: partition, Value: sarama.StringEncoder("p")}
			send(config(), message)
			Same([]any{message.Partition, message.Offset}, []any{partition, int64(0)}, "where")
			Same(values(read(name, 1, partition, 0)), "p", "values")
		}
	})
	Add("record-timestamp", func() {
		name := topic(1, nil)
		stamp := time.UnixMilli(time.Now().Add(-5 * hour).UnixMilli())
		send(config(), &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder("x"), Timestamp: stamp})
		Same(read(name, 1, 0, 0)[0].Timestamp.UnixMilli(), stamp.UnixMilli(), "timestamp")
	})
	Add("too-large-refused", func() {
		limit := "1000"
		name := topic(1, map[string]*string{"max.message.bytes": &limit})
		producer := Must(sarama.NewSyncProducer([]string{Address()}, config()))
		defer producer.Close()
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: name, Value: sarama.ByteEncoder(make([]byte, 5000))})
		Same(errors.Is(err, sarama.ErrMessageSizeTooLarge), true, fmt.Sprint(err))
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
		Same(values(read(name, 2, 0, sarama.OffsetOldest)), "a,b", "values")
	})
	Add("consume-latest", func() {
		name := topic(1, nil)
		sendValues(name, "old")
		consumer := Must(sarama.NewConsumer([]string{Address()}, config()))
		defer consumer.Close()
		part := Must(consumer.ConsumePartition(name, 0, sarama.OffsetNewest))
		defer part.AsyncClose()
		sendValues(name, "new")
		Same(values(take(part.Messages(), 1)), "new", "values")
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
		name, base := topic(1, nil), time.Now().Add(-hour)
		for i := range 6 {
			send(config(), &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(fmt.Sprint(i)), Timestamp: base.Add(time.Duration(i) * time.Second)})
		}
		offset := offsetAt(name, base.Add(3500*time.Millisecond).UnixMilli())
		Same(offset, int64(4), "offset")
		Same(values(read(name, 2, 0, offset)), "4,5", "values")
	})
	Add("offset-out-of-range", func() {
		name := topic(1, nil)
		consumer := Must(sarama.NewConsumer([]string{Address()}, config()))
		defer consumer.Close()
		_, err := consumer.ConsumePartition(name, 0, 500)
		Same(errors.Is(err, sarama.ErrOffsetOutOfRange), true, fmt.Sprint(err))
	})
}

func offsetAt(name string, at int64) int64 {
	client := Must(sarama.NewClient([]string{Address()}, config()))
	defer client.Close()
	return Must(client.GetOffset(name, 0, at))
}

// member is one consumer of a group; it remembers what it has and what it read.
type member struct {
	sarama.ConsumerGroup
	mutex  sync.Mutex
	share  int
	seen   *sync.Map
	limit  int
	stop   context.CancelFunc
	done   chan struct{}
	commit string
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.share = 0
	for _, partitions := range session.Claims() {
		m.share += len(partitions)
	}
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		m.seen.Store(fmt.Sprint(message.Partition, string(message.Value)), message.Offset)
		if m.limit == 0 || message.Offset < int64(m.limit) {
			session.MarkMessage(message, m.commit)
			session.Commit()
		}
	}
	return nil
}

func (m *member) has(share int) func() bool {
	return func() bool {
		m.mutex.Lock()
		defer m.mutex.Unlock()
		return m.share == share
	}
}

func (m *member) leave() {
	m.stop()
	<-m.done
	Check(m.Close())
}

func join(name, group string, seen *sync.Map, with *sarama.Config) *member {
	ctx, stop := context.WithCancel(context.Background())
	made := &member{ConsumerGroup: Must(sarama.NewConsumerGroup([]string{Address()}, group, with)), seen: seen, stop: stop, done: make(chan struct{}), commit: "wörk"}
	go func() {
		defer close(made.done)
		for ctx.Err() == nil {
			_ = made.Consume(ctx, []string{name}, made)
		}
	}()
	return made
}

func readAll(seen *sync.Map, value string) func() bool {
	return func() bool {
		for p := range 4 {
			if _, there := seen.Load(fmt.Sprint(p, value)); !there {
				return false
			}
		}
		return true
	}
}

func members(strategy sarama.BalanceStrategy) {
	name, group := topic(4, nil), Fresh("g")
	with := config()
	with.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{strategy}
	var seen sync.Map
	fill := func(value string) {
		for p := range int32(4) {
			send(config(), &sarama.ProducerMessage{Topic: name, Partition: p, Value: sarama.StringEncoder(value)})
		}
		Eventually("all "+value+" read", readAll(&seen, value))
	}
	first := join(name, group, &seen, with)
	Eventually("first has all", first.has(4))
	second := join(name, group, &seen, with)
	Eventually("2 each", func() bool { return first.has(2)() && second.has(2)() })
	fill("shared")
	first.leave()
	Eventually("second has all", second.has(4))
	fill("last")
	second.leave()
}

func groupWithCommit() (string, string) {
	name, group := topic(1, nil), Fresh("g")
	sendValues(name, "a", "b", "c")
	var seen sync.Map
	one := join(name, group, &seen, config())
	one.limit = 2
	Eventually("read", func() bool { _, there := seen.Load("0c"); return there })
	one.leave()
	return name, group
}

func groupCases() {
	Add("group-join-leave", func() { members(sarama.NewBalanceStrategyRange()) })
	Add("group-sticky", func() { members(sarama.NewBalanceStrategySticky()) })
	Add("group-static-member", func() {
		name, group := topic(2, nil), Fresh("g")
		with := config()
		with.Consumer.Group.InstanceId = "one"
		for range 2 {
			var seen sync.Map
			one := join(name, group, &seen, with)
			Eventually("has both", one.has(2))
			one.leave()
		}
		found := Must(admin.DescribeConsumerGroups([]string{group}))[0].Members
		Same(len(found), 1, "static member stays")
	})
	Add("group-commits-survive", func() {
		name, group := groupWithCommit()
		kept := Must(admin.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})).GetBlock(name, 0)
		Same([]any{kept.Offset, kept.Metadata}, []any{int64(2), "wörk"}, "committed")
		var seen sync.Map
		one := join(name, group, &seen, config())
		Eventually("read on", func() bool { _, there := seen.Load("0c"); return there })
		one.leave()
		_, again := seen.Load("0b")
		Same(again, false, "read twice")
	})
	Add("admin-list-groups", func() {
		_, group := groupWithCommit()
		Same(Must(admin.ListConsumerGroups())[group], "consumer", "type")
	})
	Add("admin-describe-group", func() {
		name, group := topic(2, nil), Fresh("g")
		var seen sync.Map
		one := join(name, group, &seen, config())
		defer one.leave()
		Eventually("has both", one.has(2))
		found := Must(admin.DescribeConsumerGroups([]string{group}))[0]
		Same([]any{found.State, found.Protocol, len(found.Members)}, []any{"Stable", "range", 1}, "group")
	})
	Add("admin-delete-group", func() {
		_, group := groupWithCommit()
		Check(admin.DeleteConsumerGroup(group))
		Same(errors.Is(admin.DeleteConsumerGroup(group), sarama.ErrGroupIDNotFound), true, "twice")
	})
	Add("admin-delete-group-offset", func() {
		name, group := groupWithCommit()
		Check(admin.DeleteConsumerGroupOffset(group, name, 0))
		Same(Must(admin.ListConsumerGroupOffsets(group, map[string][]int32{name: {0}})).GetBlock(name, 0).Offset, int64(-1), "offset")
	})
}

func setting(name, key string) string {
	for _, entry := range Must(admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name})) {
		if entry.Name == key {
			return fmt.Sprint(entry.Value, " ", entry.Source)
		}
	}
	return "absent"
}

func adminCases() {
	Add("admin-create-topic", func() {
		name := topic(5, nil)
		again := admin.CreateTopic(name, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
		Same(errors.Is(again, sarama.ErrTopicAlreadyExists), true, fmt.Sprint(again))
		checked := Fresh("checked")
		Check(admin.CreateTopic(checked, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, true))
		_, made := Must(admin.ListTopics())[checked]
		Same(made, false, "made by validate only")
	})
	Add("admin-describe-topic", func() {
		found := Must(admin.DescribeTopics([]string{topic(3, nil)}))[0]
		Same([]any{len(found.Partitions), found.Partitions[0].Leader, found.IsInternal}, []any{3, int32(1), false}, "topic")
	})
	Add("admin-delete-topic", func() {
		name := topic(1, nil)
		Check(admin.DeleteTopic(name))
		Eventually("gone", func() bool { _, there := Must(admin.ListTopics())[name]; return !there })
	})
	Add("admin-create-partitions", func() {
		name := topic(2, nil)
		Check(admin.CreatePartitions(name, 6, nil, false))
		Eventually("6", func() bool { return len(Must(admin.DescribeTopics([]string{name}))[0].Partitions) == 6 })
		send(config(), &sarama.ProducerMessage{Topic: name, Partition: 5, Value: sarama.StringEncoder("x")})
	})
	Add("admin-describe-configs", func() {
		value := "123456"
		name := topic(1, map[string]*string{"retention.ms": &value})
		Same(setting(name, "retention.ms"), "123456 Topic", "set")
		Same(setting(name, "cleanup.policy"), "delete Default", "default")
	})
	Add("admin-alter-configs", func() {
		name, value, bad := topic(1, nil), "777000", "soon"
		Check(admin.AlterConfig(sarama.TopicResource, name, map[string]*string{"retention.ms": &value}, false))
		Eventually("set", func() bool { return setting(name, "retention.ms") == "777000 Topic" })
		remove := map[string]sarama.IncrementalAlterConfigsEntry{"retention.ms": {Operation: sarama.IncrementalAlterConfigsOperationDelete}}
		Check(admin.IncrementalAlterConfig(sarama.TopicResource, name, remove, false))
		Eventually("default", func() bool { return setting(name, "retention.ms") == "604800000 Default" })
		refused := admin.AlterConfig(sarama.TopicResource, name, map[string]*string{"retention.ms": &bad}, false)
		Same(refused != nil, true, "bad value refused")
	})
	Add("admin-delete-records", func() {
		name := topic(1, nil)
		sendValues(name, "a", "b", "c", "d")
		Check(admin.DeleteRecords(name, map[int32]int64{0: 3}))
		Same(offsetAt(name, sarama.OffsetOldest), int64(3), "start")
		Same(values(read(name, 1, 0, 3)), "d", "values")
	})
	Add("admin-offsets-by-time", func() {
		name, base := topic(1, nil), time.Now().Add(-hour)
		for _, i := range []int{0, 5, 3} {
			send(config(), &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder("x"), Timestamp: base.Add(time.Duration(i) * time.Second)})
		}
		Same([]int64{offsetAt(name, sarama.OffsetOldest), offsetAt(name, sarama.OffsetNewest), offsetAt(name, base.UnixMilli()+1)}, []int64{0, 3, 1}, "offsets")
	})
	Add("admin-describe-cluster", func() {
		brokers, controller, err := admin.DescribeCluster()
		Check(err)
		Same([]any{len(brokers), controller, brokers[0].Addr()}, []any{1, int32(1), Address()}, "cluster")
	})
	Add("admin-log-dirs", func() {
		found := Must(admin.DescribeLogDirs([]int32{1}))[1]
		Same([]any{len(found), found[0].ErrorCode}, []any{1, sarama.ErrNoError}, "log dirs")
	})
}

func main() {
	admin = Must(sarama.NewClusterAdmin([]string{Address()}, config()))
	produceCases()
	consumeCases()
	groupCases()
	adminCases()
	Main()
}
