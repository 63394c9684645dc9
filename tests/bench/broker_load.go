// Load for an AMQP broker: the same program is run against msctl's and against RabbitMQ.
//
//	broker_load URL publish|leave|consume|confirm|acks|durable-publish|durable-confirm|durable-acks COUNT
//
// publish: 12-byte messages as the course sends them, until the queue has them all.
// leave:   the same, and the messages stay there.
// consume: the same, taken with automatic acknowledgement.
// confirm: 12-byte messages, confirmed, up to 1000 unconfirmed at a time.
// acks:    1 KiB messages published and consumed at once, prefetch 100, each acknowledged.
// durable-…: the same with persistent messages and a durable queue.
// Prints messages a second, and nothing else.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	queue      = "msctl-bench"
	persistent uint8
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func open(url string) *amqp.Channel {
	connection, err := amqp.Dial(url)
	check(err)
	channel, err := connection.Channel()
	check(err)
	return channel
}

func publish(channel *amqp.Channel, body []byte, count int) {
	message := amqp.Publishing{ContentType: "text/plain", Body: body, DeliveryMode: persistent}
	for i := 0; i < count; i++ {
		check(channel.PublishWithContext(context.Background(), "", queue, false, false, message))
	}
}

func await(channel *amqp.Channel, count int) {
	for {
		found, err := channel.QueueInspect(queue)
		check(err)
		if found.Messages >= count {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func main() {
	url, mode := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	check(err)
	channel := open(url)
	durable := strings.HasPrefix(mode, "durable-")
	mode = strings.TrimPrefix(mode, "durable-")
	if durable {
		queue, persistent = "msctl-bench-durable", amqp.Persistent
	}
	_, err = channel.QueueDeclare(queue, durable, false, false, false, nil)
	check(err)
	_, err = channel.QueuePurge(queue, false)
	check(err)
	short := []byte("Hello World!")
	var begin time.Time
	switch mode {
	case "publish", "leave":
		begin = time.Now()
		publish(channel, short, count)
		await(channel, count)
	case "consume":
		publish(channel, short, count)
		await(channel, count)
		begin = time.Now()
		messages, err := open(url).Consume(queue, "", true, false, false, false, nil)
		check(err)
		for i := 0; i < count; i++ {
			<-messages
		}
	case "confirm":
		check(channel.Confirm(false))
		confirms := channel.NotifyPublish(make(chan amqp.Confirmation, 2000))
		begin = time.Now()
		waiting := 0
		for i := 0; i < count; i++ {
			publish(channel, short, 1)
			for waiting++; waiting >= 1000; waiting-- {
				<-confirms
			}
		}
		for ; waiting > 0; waiting-- {
			<-confirms
		}
	case "acks":
		consumer := open(url)
		check(consumer.Qos(100, 0, false))
		messages, err := consumer.Consume(queue, "", false, false, false, false, nil)
		check(err)
		begin = time.Now()
		go publish(channel, make([]byte, 1024), count)
		for i := 0; i < count; i++ {
			message := <-messages
			check(message.Ack(false))
		}
		defer time.Sleep(100 * time.Millisecond)
	default:
		log.Fatal("unknown mode ", mode)
	}
	fmt.Printf("%.0f\n", float64(count)/time.Since(begin).Seconds())
	if mode == "leave" {
		return
	}
	_, err = channel.QueuePurge(queue, false)
	check(err)
}
