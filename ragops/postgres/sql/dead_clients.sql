-- Settings of one transaction, by which the server notices that its client is gone. The client's own are the same
-- (connection.py).

-- name: end_with_client
-- Makes the server look every 5 s whether the client is there, also while it runs a statement.
SELECT set_config('client_connection_check_interval', '5s', true), set_config('tcp_keepalives_idle', '20', true),
       set_config('tcp_keepalives_interval', '10', true), set_config('tcp_keepalives_count', '3', true);

-- name: end_with_machine
-- The same where the server's system cannot look during a statement: it notices a machine that is gone.
SELECT set_config('tcp_keepalives_idle', '20', true), set_config('tcp_keepalives_interval', '10', true),
       set_config('tcp_keepalives_count', '3', true);
