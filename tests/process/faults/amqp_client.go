// A client of the library that most Go programs use.
//
//	amqp_client URL publish QUEUE COUNT
//	  publishes COUNT messages at once in confirm mode; prints "acked [TAG…]", "nacked [TAG…]". The library
//	  tells its users confirms in the order of the tags: those behind a missing one are held back.
//	amqp_client URL consume QUEUE
//	  prints "consuming ADDRESS", "got BODY" for each message, and how it
//	  ended: "closed CODE", "cancelled TAG", "lost CODE".
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"

	amqp "github.com/rabbitmq/amqp091-go"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func publish(channel *amqp.Channel, queue string, count int) {
	check(channel.Confirm(false))
	confirms := channel.NotifyPublish(make(chan amqp.Confirmation, count+1))
	for i := 1; i <= count; i++ {
		check(channel.PublishWithContext(context.Background(), "", queue, false, false,
			amqp.Publishing{Body: []byte(strconv.Itoa(i))}))
	}
	// Its answer comes behind all confirms.
	_, err := channel.QueueInspect(queue)
	check(err)
	found := map[bool][]uint64{}
	for len(confirms) > 0 {
		confirm := <-confirms
		found[confirm.Ack] = append(found[confirm.Ack], confirm.DeliveryTag)
	}
	fmt.Println("acked", found[true])
	fmt.Println("nacked", found[false])
}

func consume(connection *amqp.Connection, channel *amqp.Channel, queue string) {
	lost := connection.NotifyClose(make(chan *amqp.Error, 1))
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	cancelled := channel.NotifyCancel(make(chan string, 1))
	messages, err := channel.Consume(queue, "", false, false, false, false, nil)
	check(err)
	fmt.Println("consuming", connection.LocalAddr())
	for message := range messages {
		fmt.Println("got", string(message.Body))
		check(message.Ack(false))
	}
	select {
	case err := <-lost:
		fmt.Println("lost", err.Code)
		return
	default:
	}
	select {
	case tag := <-cancelled:
		fmt.Println("cancelled", tag)
	case err := <-closed:
		fmt.Println("closed", err.Code)
	}
}

func main() {
	connection, err := amqp.Dial(os.Args[1])
	check(err)
	channel, err := connection.Channel()
	check(err)
	_, err = channel.QueueDeclare(os.Args[3], false, false, false, false, nil)
	check(err)
	if os.Args[2] == "consume" {
		consume(connection, channel, os.Args[3])
		return
	}
	count, err := strconv.Atoi(os.Args[4])
	check(err)
	publish(channel, os.Args[3], count)
}
