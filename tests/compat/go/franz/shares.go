// Cases of franz-go's share consumer (KIP-932).
package main

import (
	"context"
	"fmt"
	"time"

	. "mainstem/compat/cases"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// shareGroup is a share group that begins at the beginning.
func shareGroup() string {
	name := Fresh("share")
	value := "earliest"
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType = kmsg.ConfigResourceTypeGroupConfig
	resource.ResourceName = name
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name = "share.auto.offset.reset"
	config.Op = kmsg.IncrementalAlterConfigOp(kadm.SetConfig)
	config.Value = &value
	resource.Configs = append(resource.Configs, config)
	request.Resources = append(request.Resources, resource)
	admin := client()
	defer admin.Close()
	reply := Must(request.RequestWith(deadline(), admin))
	Same(reply.Resources[0].ErrorCode, int16(0), "error of the config")
	return name
}

func shareClient(group, name string, options ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{kgo.ShareGroup(group), kgo.ConsumeTopics(name)}
	return client(append(base, options...)...)
}

// some polls until something comes.
func some(consumer *kgo.Client) []*kgo.Record {
	ctx := deadline()
	for ctx.Err() == nil {
		fetches := consumer.PollRecords(ctx, 500)
		Check(fetches.Err())
		if records := fetches.Records(); len(records) > 0 {
			return records
		}
	}
	return nil
}

func shareCases() {
	Add("share-implicit", func() {
		name, group := topic(3, nil), shareGroup()
		var records []*kgo.Record
		for i := range 60 {
			records = append(records, &kgo.Record{Topic: name, Partition: int32(i % 3), Value: fmt.Append(nil, i)})
		}
		send(records)
		consumer := shareClient(group, name)
		seen := map[string]int{}
		Eventually("all records came", func() bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			for _, record := range consumer.PollRecords(ctx, 500).Records() {
				seen[string(record.Value)]++
			}
			return len(seen) == 60
		})
		consumer.MarkAcks(kgo.AckAccept) // what the next poll would do
		Check(consumer.FlushAcks(deadline()))
		consumer.Close()
		again := shareClient(group, name)
		defer again.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		Same(len(again.PollRecords(ctx, 500).Records()), 0, "records after all were accepted")
	})
	Add("share-explicit", func() {
		name, group := topic(1, nil), shareGroup()
		sendValues(name, "a", "b", "c")
		consumer := shareClient(group, name)
		defer consumer.Close()
		records := some(consumer)
		Same(values(records), "a,b,c", "values")
		records[0].Ack(kgo.AckAccept)
		records[1].Ack(kgo.AckRelease)
		records[2].Ack(kgo.AckReject)
		Check(consumer.FlushAcks(deadline()))
		again := some(consumer)
		Same(values(again), "b", "released")
		Same(again[0].DeliveryCount(), int32(2), "delivery count")
		again[0].Ack(kgo.AckAccept)
		Check(consumer.FlushAcks(deadline()))
	})
	Add("share-record-limit", func() {
		name, group := topic(1, nil), shareGroup()
		sendValues(name, "a", "b", "c", "d", "e")
		consumer := shareClient(group, name, kgo.ShareMaxRecords(2), kgo.ShareMaxRecordsStrict())
		defer consumer.Close()
		Same(values(some(consumer)), "a,b", "values")
		Check(consumer.FlushAcks(deadline()))
	})
}
