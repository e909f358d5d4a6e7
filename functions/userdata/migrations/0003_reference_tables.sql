-- The tables of the reference service. A user of the project puts their own here and lists them in the same way.

CREATE TABLE IF NOT EXISTS users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    name varchar(200),
    active boolean NOT NULL,
    visits bigint NOT NULL,
    score double precision,
    balance numeric(20, 4),
    born date,
    created_at timestamptz NOT NULL,
    preferences jsonb,
    avatar bytea,
    tags text[],
    limits bigint[],
    flags boolean[],
    weights double precision[],
    prices numeric(20, 4)[],
    logins timestamptz[],
    holidays date[],
    devices uuid[],
    keys bytea[]
);

CREATE TABLE IF NOT EXISTS orders (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    product_ids text[] NOT NULL,
    total numeric(20, 4) NOT NULL,
    placed_at timestamptz NOT NULL,
    details jsonb
);

CREATE INDEX IF NOT EXISTS orders_by_user ON orders (user_id);

SELECT lifeboat.install_outbox(ARRAY['users', 'orders']);
