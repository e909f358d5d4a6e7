-- What replication keeps in the database, and the functions that fill and drain it. Tables are listed with
-- lifeboat.install_outbox; everything else follows from their primary keys and columns.

CREATE SCHEMA IF NOT EXISTS lifeboat;

CREATE TABLE lifeboat.settings (name text PRIMARY KEY, value text NOT NULL);

-- Expressions over the alias t and the key $1 (a jsonb list of texts), written once when a table is listed.
CREATE TABLE lifeboat.tables (
    name text PRIMARY KEY,
    key_columns text[] NOT NULL,
    key_match text NOT NULL,
    key_order text NOT NULL,
    key_after text NOT NULL
);

CREATE TABLE lifeboat.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    key text NOT NULL,
    version bigint NOT NULL,
    content jsonb
);

CREATE TABLE lifeboat.tombstones (
    table_name text NOT NULL,
    key text NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (table_name, key)
);

CREATE TABLE lifeboat.parked (
    table_name text NOT NULL,
    key text NOT NULL,
    version bigint NOT NULL,
    content jsonb,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, key, version)
);

-- The version of a write over a row whose newest known version is last: milliseconds rounded down to a multiple of 4; this
-- site's number is 0, so nothing is added (functions/features/version.py).
CREATE FUNCTION lifeboat.stamp(last bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT greatest(now_ms - now_ms % 4, last - last % 4 + 4)
    FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms) AS clock
$$;

CREATE FUNCTION lifeboat.key_of(content jsonb, key_columns text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT array_to_json(array_agg(content ->> name ORDER BY place))::text
    FROM unnest(key_columns) WITH ORDINALITY AS each (name, place)
$$;

CREATE FUNCTION lifeboat.buried(wanted_table text, wanted_key text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(version), 0) FROM lifeboat.tombstones WHERE table_name = wanted_table AND key = wanted_key
$$;

CREATE FUNCTION lifeboat.is_replicating() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(current_setting('lifeboat.replicating', true), '') = 'on'
$$;

CREATE FUNCTION lifeboat.bury_key(wanted_table text, wanted_key text, wanted_version bigint) RETURNS void
LANGUAGE sql VOLATILE AS $$
    INSERT INTO lifeboat.tombstones AS known (table_name, key, version)
    VALUES (wanted_table, wanted_key, wanted_version)
    ON CONFLICT (table_name, key) DO UPDATE SET version = greatest(known.version, excluded.version)
$$;

-- What writers of one row that is not there yet take turns by: two that insert it share the lock, replication has it alone.
CREATE FUNCTION lifeboat.place(wanted_table text, wanted_key text) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended(wanted_table || wanted_key, 0)
$$;

-- Before a local write: give the row its version, above its own last one and above its tombstone.
CREATE FUNCTION lifeboat.stamp_row() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    last bigint := 0;
    new_key text := lifeboat.key_of(to_jsonb(NEW), TG_ARGV);
    is_new boolean := true;
BEGIN
    IF lifeboat.is_replicating() THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        -- A write that changes nothing is none.
        IF OLD.version > 0 AND NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
        last := OLD.version;
        is_new := lifeboat.key_of(to_jsonb(OLD), TG_ARGV) IS DISTINCT FROM new_key;
    END IF;
    IF is_new THEN
        -- There is no row yet whose lock would keep a replicated delete of the same key away until this is committed.
        PERFORM pg_advisory_xact_lock_shared(lifeboat.place(TG_TABLE_NAME, new_key));
    END IF;
    NEW.version := lifeboat.stamp(greatest(last, lifeboat.buried(TG_TABLE_NAME, new_key)));
    RETURN NEW;
END
$$;

-- After a local write, in the writer's transaction: note it in the outbox. Values are written as JSON in the one form that the
-- other side reads, whatever the session has set.
CREATE FUNCTION lifeboat.capture_row() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT
SET bytea_output = 'hex' SET timezone = 'UTC' SET datestyle = 'ISO' SET extra_float_digits = 1 AS $$
DECLARE
    old_key text;
    new_key text;
    deleted_at bigint;
BEGIN
    IF lifeboat.is_replicating() THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        old_key := lifeboat.key_of(to_jsonb(OLD), TG_ARGV);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        new_key := lifeboat.key_of(to_jsonb(NEW), TG_ARGV);
    END IF;
    IF old_key IS DISTINCT FROM new_key AND old_key IS NOT NULL THEN
        deleted_at := lifeboat.stamp(OLD.version);
        PERFORM lifeboat.bury_key(TG_TABLE_NAME, old_key, deleted_at);
        INSERT INTO lifeboat.outbox (table_name, key, version) VALUES (TG_TABLE_NAME, old_key, deleted_at);
    END IF;
    IF new_key IS NULL OR (TG_OP = 'UPDATE' AND NEW.version = OLD.version) THEN
        RETURN NULL;
    END IF;
    DELETE FROM lifeboat.tombstones WHERE table_name = TG_TABLE_NAME AND key = new_key;
    INSERT INTO lifeboat.outbox (table_name, key, version, content)
    VALUES (TG_TABLE_NAME, new_key, NEW.version, to_jsonb(NEW) - 'version');
    RETURN NULL;
END
$$;

CREATE FUNCTION lifeboat.refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % is replicated: TRUNCATE fires no row triggers; use DELETE', TG_TABLE_NAME;
END
$$;

-- At commit: call the function that drains the outbox, once a transaction. Without Aurora's aws_lambda extension, or when the
-- call fails, the schedule drains; a wake-up that fails must never fail the writer.
CREATE FUNCTION lifeboat.wake() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    drain text;
BEGIN
    IF current_setting('lifeboat.woken', true) = pg_current_xact_id()::text THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('lifeboat.woken', pg_current_xact_id()::text, true);
    SELECT value INTO drain FROM lifeboat.settings WHERE name = 'drain';
    IF drain IS NULL OR to_regnamespace('aws_lambda') IS NULL THEN
        RETURN NULL;
    END IF;
    BEGIN
        EXECUTE 'SELECT aws_lambda.invoke($1, $2, $3, $4)'
        USING drain, json_build_object('source', 'database', 'outbox', NEW.id), split_part(drain, ':', 4), 'Event'::text;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'drain was not called: %', SQLERRM;
    END;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER lifeboat_wake AFTER INSERT ON lifeboat.outbox
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lifeboat.wake();

-- List tables for replication; listing one again brings its triggers in line.
CREATE FUNCTION lifeboat.install_outbox(table_names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    listed text;
    keys text[];
    types text[];
BEGIN
    FOREACH listed IN ARRAY table_names LOOP
        SELECT array_agg(a.attname::text ORDER BY k.place), array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY k.place)
        INTO keys, types
        FROM pg_index AS i
        CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (number, place)
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
        WHERE i.indrelid = listed::regclass AND i.indisprimary;
        IF keys IS NULL THEN
            RAISE EXCEPTION 'table % has no primary key, by which rows are told apart', listed;
        END IF;
        EXECUTE format('ALTER TABLE %I ADD COLUMN IF NOT EXISTS version bigint NOT NULL DEFAULT 0', listed);
        INSERT INTO lifeboat.tables (name, key_columns, key_match, key_order, key_after)
        SELECT listed, keys,
            string_agg(format('t.%I = ($1 ->> %s)::%s', name, place - 1, type), ' AND ' ORDER BY place),
            string_agg(format('t.%I', name), ', ' ORDER BY place),
            format('(%s) > (%s)', string_agg(format('t.%I', name), ', ' ORDER BY place),
                string_agg(format('($1 ->> %s)::%s', place - 1, type), ', ' ORDER BY place))
        FROM unnest(keys, types) WITH ORDINALITY AS each (name, type, place)
        ON CONFLICT (name) DO UPDATE SET key_columns = excluded.key_columns, key_match = excluded.key_match,
            key_order = excluded.key_order, key_after = excluded.key_after;
        EXECUTE format('DROP TRIGGER IF EXISTS zz_lifeboat_stamp ON %I', listed);
        EXECUTE format('DROP TRIGGER IF EXISTS lifeboat_capture ON %I', listed);
        EXECUTE format('DROP TRIGGER IF EXISTS lifeboat_truncate ON %I', listed);
        -- The name is the last in the order of before triggers, so that it sees what others changed.
        EXECUTE format('CREATE TRIGGER zz_lifeboat_stamp BEFORE INSERT OR UPDATE ON %I FOR EACH ROW'
            ' EXECUTE FUNCTION lifeboat.stamp_row(%s)', listed, (SELECT string_agg(quote_literal(n), ', ') FROM unnest(keys) AS n));
        EXECUTE format('CREATE TRIGGER lifeboat_capture AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW'
            ' EXECUTE FUNCTION lifeboat.capture_row(%s)', listed, (SELECT string_agg(quote_literal(n), ', ') FROM unnest(keys) AS n));
        EXECUTE format('CREATE TRIGGER lifeboat_truncate BEFORE TRUNCATE ON %I'
            ' EXECUTE FUNCTION lifeboat.refuse_truncate()', listed);
    END LOOP;
END
$$;

-- Rows that were there before their table was listed: give some of them a version, which puts them into the outbox.
CREATE FUNCTION lifeboat.copy_existing(most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    listed text;
    found integer;
    total integer := 0;
BEGIN
    FOR listed IN SELECT name FROM lifeboat.tables ORDER BY name LOOP
        EXECUTE format('UPDATE %1$I SET version = 0 WHERE ctid = ANY(ARRAY(SELECT ctid FROM %1$I WHERE version = 0 LIMIT $1))', listed)
        USING most - total;
        GET DIAGNOSTICS found = ROW_COUNT;
        total := total + found;
    END LOOP;
    RETURN total;
END
$$;
