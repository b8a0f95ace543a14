"""A shop of four services over one stream, as a tutorial of the Python API: `make demo` runs it.

    customers --carts--> orders --orders--> payments --payments--> shipping --shipments--> notifications
                                                     \\--payments--> notifications

Read `events.py` first, then the services in that order; each is a program of its own, `mainstem run
examples.shop.payments`. `ledger.py` is why nothing happens twice; `bank.py` and `carrier.py` are the world
outside, with its outages. `customers.py` places orders, and `demo.py` starts all of it.
"""
