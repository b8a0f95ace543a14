# Bunny (Debian: ruby-bunny) against any server of AMQP 0-9-1: ruby suite.rb HOST:PORT [CASE...]
require 'bunny'
require 'timeout'

CASE_SECONDS_MAX = 60
HOST, PORT = ARGV.shift.split(/:(?=\d+\z)/)
CASES = {}

def test(name, &body)
  CASES[name] = body
end

def same(actual, expected, what)
  raise "#{what}: got #{actual.inspect}, expected #{expected.inspect}" unless actual == expected
end

def eventually(what)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 20
  until yield
    raise "not so after 20 s: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

    sleep 0.02
  end
end

def connection(**options)
  bunny = Bunny.new(host: HOST, port: PORT.to_i, log_level: Logger::FATAL, **options)
  bunny.start
  yield bunny
ensure
  bunny&.close if bunny&.open?
end

def channel(&body)
  connection { |bunny| body.call(bunny.create_channel) }
end

test 'publish-and-subscribe' do
  channel do |channel|
    queue = channel.queue('', exclusive: true)
    received = Queue.new
    queue.subscribe(manual_ack: true) do |info, properties, body|
      received << [properties.message_id, properties.headers['number'], body]
      channel.ack(info.delivery_tag)
    end
    200.times { |i| queue.publish("order #{i}", message_id: "m#{i}", headers: { 'number' => i }, persistent: true) }
    200.times { |i| same(received.pop, ["m#{i}", i, "order #{i}"], 'in order') }
  end
end

test 'confirms' do
  channel do |channel|
    queue = channel.queue('', exclusive: true)
    channel.confirm_select
    500.times { |i| queue.publish("order #{i}") }
    same(channel.wait_for_confirms, true, 'confirmed')
    same(channel.nacked_set.empty?, true, 'none refused')
    same(queue.message_count, 500, 'messages')
  end
end

test 'returned' do
  channel do |channel|
    returned = Queue.new
    exchange = channel.default_exchange
    exchange.on_return { |info, _, body| returned << [info.reply_code, body] }
    exchange.publish('order 7', routing_key: 'bunny-no-such', mandatory: true)
    same(returned.pop, [312, 'order 7'], 'returned')
  end
end

test 'exchanges' do
  channel do |channel|
    topic = channel.topic('bunny-orders', auto_delete: true)
    fanout = channel.fanout('bunny-all', auto_delete: true)
    queue = channel.queue('', exclusive: true).bind(fanout)
    fanout.bind(topic, routing_key: 'order.#')
    topic.publish('flight', routing_key: 'flight.late')
    topic.publish('order 7', routing_key: 'order.placed')
    body = nil
    eventually('the order') { body = queue.pop[2] }
    same(body, 'order 7', 'body')
    fanout.unbind(topic, routing_key: 'order.#')
    queue.unbind(fanout)
    channel.headers('bunny-headers', auto_delete: true).delete
  end
end

test 'errors' do
  connection do |bunny|
    kinds = bunny.create_channel.topic('bunny-kinds', auto_delete: true)
    [
      [Bunny::NotFound, ->(channel) { channel.queue('bunny-no-such', passive: true) }],
      [Bunny::PreconditionFailed, ->(channel) { channel.fanout('bunny-kinds') }],
      [Bunny::AccessRefused, ->(channel) { channel.queue('amq.bunny') }]
    ].each do |error, cause|
      begin
        cause.call(bunny.create_channel)
        raise "no #{error}"
      rescue error
        same(bunny.open?, true, 'open')
      end
    end
    kinds.delete
  end
end

test 'dead-letters' do
  channel do |channel|
    dead = channel.queue('', exclusive: true)
    arguments = { 'x-dead-letter-exchange' => '', 'x-dead-letter-routing-key' => dead.name }
    queue = channel.queue('bunny-rejected', exclusive: true, arguments: arguments)
    queue.publish('order 7')
    info = nil
    eventually('the order') { info = queue.pop(manual_ack: true)[0] }
    channel.reject(info.delivery_tag, false)
    properties = nil
    eventually('the dead letter') { properties = dead.pop[1] }
    death = properties.headers['x-death'].first
    same(death.values_at('reason', 'queue', 'count'), ['rejected', 'bunny-rejected', 1], 'x-death')
  end
end

test 'prefetch' do
  channel do |channel|
    queue = channel.queue('', exclusive: true)
    channel.prefetch(3)
    tags = Queue.new
    10.times { queue.publish('order') }
    queue.subscribe(manual_ack: true) { |info, _, _| tags << info.delivery_tag }
    eventually('three') { tags.size == 3 }
    3.times { tags.pop }
    channel.ack(3, true)
    eventually('three more') { tags.size == 3 }
  end
end

test 'transactions' do
  channel do |channel|
    queue = channel.queue('', exclusive: true)
    channel.tx_select
    queue.publish('order 7')
    channel.tx_rollback
    queue.publish('order 8')
    channel.tx_commit
    same(queue.pop[2], 'order 8', 'committed')
  end
end

test 'reply-to' do
  channel do |channel|
    requests = channel.queue('', exclusive: true)
    requests.subscribe do |_, properties, body|
      channel.default_exchange.publish(body.upcase, routing_key: properties.reply_to, correlation_id: properties.correlation_id)
    end
    answers = Queue.new
    replies = Bunny::Consumer.new(channel, 'amq.rabbitmq.reply-to', '', true)
    replies.on_delivery { |_, properties, body| answers << [properties.correlation_id, body] }
    channel.basic_consume_with(replies)
    requests.publish('flight', reply_to: 'amq.rabbitmq.reply-to', correlation_id: '7')
    same(answers.pop, %w[7 FLIGHT], 'answer')
  end
end

test 'cancelled' do
  channel do |channel|
    queue = channel.queue('bunny-cancelled')
    cancelled = Queue.new
    consumer = Bunny::Consumer.new(channel, queue)
    consumer.on_cancellation { cancelled << true }
    channel.basic_consume_with(consumer)
    channel.connection.create_channel.queue_delete('bunny-cancelled')
    same(cancelled.pop, true, 'cancelled by the server')
  end
end

test 'recovery' do
  recovered = Queue.new
  connection(network_recovery_interval: 0.2, recovery_completed: -> { recovered << true }) do |bunny|
    channel = bunny.create_channel
    queue = channel.queue('bunny-recovered', exclusive: true)
    received = Queue.new
    queue.subscribe { |_, _, body| received << body }
    bunny.transport.instance_variable_get(:@socket).shutdown
    recovered.pop
    queue.publish('order 7')
    same(received.pop, 'order 7', 'after the recovery')
  end
end

failed = false
CASES.each do |name, body|
  next unless ARGV.empty? || ARGV.include?(name)

  begin
    Timeout.timeout(CASE_SECONDS_MAX) { body.call }
    puts "PASS #{name}"
  rescue Exception => error # rubocop:disable Lint/RescueException
    failed = true
    puts "FAIL #{name}: #{error.class} #{error.message.tr("\n", ' ')}", error.backtrace.first(5)
  end
  $stdout.flush
end
exit!(failed ? 1 : 0)
