// RabbitMQ's stream client for Go: prints a line for each case. Argument: the port.
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/amqp"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/stream"
)

func until(what string, reached func() bool) error {
	for i := 0; i < 600; i++ {
		if reached() {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("%s: not within a minute", what)
}

func compressed(env *stream.Environment) error {
	options := stream.NewStreamOptions().SetMaxLengthBytes(stream.ByteCapacity{}.GB(1))
	if err := env.DeclareStream("go", options); err != nil {
		return err
	}
	var confirmed, received, wrong atomic.Int64
	batches := stream.NewProducerOptions().SetCompression(stream.Compression{}.Gzip()).SetSubEntrySize(10)
	producer, err := env.NewProducer("go", batches)
	if err != nil {
		return err
	}
	confirms := producer.NotifyPublishConfirmation()
	go func() {
		for statuses := range confirms {
			for _, status := range statuses {
				if status.IsConfirmed() {
					confirmed.Add(1)
				}
			}
		}
	}()
	for i := 0; i < 1000; i++ {
		if err := producer.Send(amqp.NewMessage([]byte(strconv.Itoa(i)))); err != nil {
			return err
		}
	}
	handle := func(context stream.ConsumerContext, message *amqp.Message) {
		if string(message.GetData()) != strconv.Itoa(int(received.Load())) {
			wrong.Add(1)
		}
		if context.Consumer.GetOffset() == 500 {
			_ = context.Consumer.StoreOffset()
		}
		received.Add(1)
	}
	first := stream.NewConsumerOptions().SetOffset(stream.OffsetSpecification{}.First())
	consumer, err := env.NewConsumer("go", handle, first.SetConsumerName("billing").SetManualCommit())
	if err != nil {
		return err
	}
	if err := until("messages", func() bool { return received.Load() == 1000 && confirmed.Load() == 1000 }); err != nil {
		return err
	}
	if wrong.Load() != 0 {
		return fmt.Errorf("%d messages out of order", wrong.Load())
	}
	stored := func() bool { offset, err := env.QueryOffset("billing", "go"); return err == nil && offset == 500 }
	if err := until("the stored offset", stored); err != nil {
		return err
	}
	if err := consumer.Close(); err != nil {
		return err
	}
	return producer.Close()
}

func superStream(env *stream.Environment) error {
	if err := env.DeclareSuperStream("go-invoices", stream.NewPartitionsOptions(3)); err != nil {
		return err
	}
	partitions, err := env.QueryPartitions("go-invoices")
	if err != nil || len(partitions) != 3 || partitions[2] != "go-invoices-2" {
		return fmt.Errorf("partitions %v: %v", partitions, err)
	}
	return env.DeleteSuperStream("go-invoices")
}

func main() {
	port, _ := strconv.Atoi(os.Args[1])
	options := stream.NewEnvironmentOptions().SetHost("127.0.0.1").SetPort(port).SetUser("guest").SetPassword("guest")
	env, err := stream.NewEnvironment(options)
	if err != nil {
		fmt.Println("FAIL connect:", err)
		return
	}
	cases := map[string]func(*stream.Environment) error{"compressed": compressed, "super_stream": superStream}
	for name, run := range cases {
		if err := run(env); err != nil {
			fmt.Printf("FAIL %s: %v\n", name, err)
		} else {
			fmt.Println("PASS", name)
		}
	}
	_ = env.Close()
}
