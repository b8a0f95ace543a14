"""How a client connects and logs in: by what options, variables, contexts and files of properties say."""
