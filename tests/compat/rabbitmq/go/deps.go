// Package rabbitmq pins amqp091-go, whose own integration tests run against the server.
package rabbitmq

import _ "github.com/rabbitmq/amqp091-go"
