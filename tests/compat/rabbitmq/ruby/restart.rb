# Bunny goes on by itself when the server has been killed and started again: ruby restart.rb HOST:PORT
# Prints READY when the server may be killed, and waits for a line when it is there again.
require 'bunny'
require 'timeout'

host, port = ARGV.shift.split(/:(?=\d+\z)/)
received = Queue.new
recovered = Queue.new

begin
  Timeout.timeout(60) do
    bunny = Bunny.new(host: host, port: port.to_i, log_level: Logger::FATAL, network_recovery_interval: 0.2,
                      recovery_completed: -> { recovered << true })
    bunny.start
    channel = bunny.create_channel
    queue = channel.queue('restart-bunny', durable: true)
    queue.bind(channel.topic('restart-bunny', durable: true), routing_key: 'order.#')
    queue.subscribe(manual_ack: true) do |info, _, body|
      received << body
      channel.ack(info.delivery_tag)
    end
    channel.topic('restart-bunny', durable: true).publish('order 0', routing_key: 'order.placed')
    raise 'another order' unless received.pop == 'order 0'

    puts 'READY'
    $stdout.flush
    $stdin.gets
    recovered.pop
    channel.topic('restart-bunny', durable: true).publish('order 1', routing_key: 'order.placed')
    nil until received.pop == 'order 1' # order 0 may come again
  end
  puts 'PASS bunny'
  code = 0
rescue Exception => error # rubocop:disable Lint/RescueException
  puts "FAIL bunny: #{error.class} #{error.message.tr("\n", ' ')}", error.backtrace.first(5)
  code = 1
end
$stdout.flush
exit!(code)
