-- What replication asks of the database: apply, read and page through rows, and keep house. Lists travel as JSON, so that a
-- batch is one call, whatever its tables and types are.

CREATE FUNCTION lifeboat.apply_row(wanted_table text, wanted_key text, wanted_version bigint, content jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    listed lifeboat.tables%ROWTYPE;
    columns text;
    changes text;
    touched integer;
BEGIN
    SELECT * INTO listed FROM lifeboat.tables WHERE name = wanted_table;
    IF NOT FOUND THEN
        RETURN 'refused: table ' || wanted_table || ' is not listed';
    END IF;
    IF content IS NULL THEN
        EXECUTE format('DELETE FROM %I AS t WHERE %s AND t.version < $2', wanted_table, listed.key_match)
        USING wanted_key::jsonb, wanted_version;
        EXECUTE format('SELECT count(*) FROM %I AS t WHERE %s', wanted_table, listed.key_match)
        INTO touched USING wanted_key::jsonb;
        IF touched > 0 OR lifeboat.buried(wanted_table, wanted_key) >= wanted_version THEN
            RETURN 'stale';
        END IF;
        PERFORM lifeboat.bury_key(wanted_table, wanted_key, wanted_version);
        RETURN 'applied';
    END IF;
    IF lifeboat.buried(wanted_table, wanted_key) >= wanted_version THEN
        RETURN 'stale';
    END IF;
    SELECT string_agg(format('%I', attname), ', '), string_agg(format('%1$I = excluded.%1$I', attname), ', ')
    INTO columns, changes
    FROM pg_attribute
    WHERE attrelid = wanted_table::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format(
        'INSERT INTO %1$I AS t (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$I, $1)'
        ' ON CONFLICT (%3$s) DO UPDATE SET %4$s WHERE t.version < excluded.version',
        wanted_table, columns, (SELECT string_agg(format('%I', n), ', ') FROM unnest(listed.key_columns) AS n), changes
    ) USING content || jsonb_build_object('version', wanted_version);
    GET DIAGNOSTICS touched = ROW_COUNT;
    IF touched = 0 THEN
        RETURN 'stale';
    END IF;
    -- A local delete that was committed while the insert waited for it is newer than what it deleted; see whether it is newer
    -- than this row as well.
    IF lifeboat.buried(wanted_table, wanted_key) >= wanted_version THEN
        EXECUTE format('DELETE FROM %I AS t WHERE %s', wanted_table, listed.key_match) USING wanted_key::jsonb;
        RETURN 'stale';
    END IF;
    DELETE FROM lifeboat.tombstones WHERE table_name = wanted_table AND key = wanted_key;
    RETURN 'applied';
END
$$;

-- Apply a list of {table, key, version, row or null}, in its order, newest version wins; returns a list of outcomes: applied,
-- stale, waiting (a parent is missing, children are left, or a program holds the row) or refused with the reason. A row that fails undoes only itself.
CREATE FUNCTION lifeboat.apply(changes jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    change jsonb;
    outcome text;
    outcomes jsonb := '[]';
BEGIN
    PERFORM set_config('lifeboat.replicating', 'on', true);
    -- Well below deadlock_timeout (a second by default): replication gives way and comes again, a program is never the victim.
    PERFORM set_config('lock_timeout', '300ms', true);
    FOR change IN SELECT value FROM jsonb_array_elements(changes) LOOP
        BEGIN
            PERFORM pg_advisory_xact_lock(lifeboat.place(change ->> 'table', change ->> 'key'));
            outcome := lifeboat.apply_row(
                change ->> 'table', change ->> 'key', (change ->> 'version')::bigint, nullif(change -> 'row', 'null')
            );
        EXCEPTION
            WHEN foreign_key_violation OR lock_not_available OR deadlock_detected THEN
                outcome := 'waiting';
            WHEN integrity_constraint_violation OR data_exception OR program_limit_exceeded OR raise_exception THEN
                -- The message of a data exception may quote the value; its code says enough.
                outcome := 'refused: ' || SQLSTATE || CASE WHEN SQLSTATE LIKE '23%' THEN ' ' || SQLERRM ELSE '' END;
        END;
        outcomes := outcomes || to_jsonb(outcome);
    END LOOP;
    PERFORM set_config('lifeboat.replicating', 'off', true);
    RETURN outcomes;
END
$$;

-- Write the tombstone of a row that can't be: a fresh version above last, which travels back like any other delete, and takes an
-- older row with it. Returns the version that then stands; a repeat, or a row that is newer than last, changes nothing.
CREATE FUNCTION lifeboat.bury(wanted_table text, wanted_key text, last bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    listed lifeboat.tables%ROWTYPE;
    known bigint;
    written bigint;
BEGIN
    PERFORM set_config('lifeboat.replicating', 'on', true);
    PERFORM set_config('lock_timeout', '300ms', true);
    PERFORM pg_advisory_xact_lock(lifeboat.place(wanted_table, wanted_key));
    SELECT * INTO STRICT listed FROM lifeboat.tables WHERE name = wanted_table;
    EXECUTE format('SELECT t.version FROM %I AS t WHERE %s FOR UPDATE', wanted_table, listed.key_match)
    INTO written USING wanted_key::jsonb;
    known := greatest(written, lifeboat.buried(wanted_table, wanted_key));
    IF known > last THEN
        RETURN known;
    END IF;
    EXECUTE format('DELETE FROM %I AS t WHERE %s', wanted_table, listed.key_match) USING wanted_key::jsonb;
    known := lifeboat.stamp(greatest(known, last));
    PERFORM lifeboat.bury_key(wanted_table, wanted_key, known);
    INSERT INTO lifeboat.outbox (table_name, key, version) VALUES (wanted_table, wanted_key, known);
    PERFORM set_config('lifeboat.replicating', 'off', true);
    RETURN known;
EXCEPTION
    -- Rows that depend on the older row are left: they are buried in their turn, and then this passes.
    WHEN foreign_key_violation THEN
        RAISE EXCEPTION 'rows are left that depend on % %', wanted_table, wanted_key USING ERRCODE = 'lock_not_available';
END
$$;

-- Rows and tombstones of the keys (a list), as {key, version, row or null}.
CREATE FUNCTION lifeboat.states(wanted_table text, keys jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE
SET bytea_output = 'hex' SET timezone = 'UTC' SET datestyle = 'ISO' SET extra_float_digits = 1 AS $$
DECLARE
    listed lifeboat.tables%ROWTYPE;
    wanted text;
    content jsonb;
    buried bigint;
    found jsonb := '[]';
BEGIN
    SELECT * INTO STRICT listed FROM lifeboat.tables WHERE name = wanted_table;
    FOR wanted IN SELECT jsonb_array_elements_text(keys) LOOP
        EXECUTE format('SELECT to_jsonb(t) FROM %I AS t WHERE %s', wanted_table, listed.key_match)
        INTO content USING wanted::jsonb;
        buried := lifeboat.buried(wanted_table, wanted);
        IF content IS NOT NULL THEN
            found := found || jsonb_build_object('key', wanted, 'version', content -> 'version', 'row', content - 'version');
        ELSIF buried > 0 THEN
            found := found || jsonb_build_object('key', wanted, 'version', buried, 'row', NULL);
        END IF;
    END LOOP;
    RETURN found;
END
$$;

-- The next rows of a table after a key, in the order of its primary key: {rows: [{key, version, row}], next: key or null}.
CREATE FUNCTION lifeboat.page(wanted_table text, after_key text, most integer, most_bytes integer) RETURNS jsonb
LANGUAGE plpgsql STABLE
SET bytea_output = 'hex' SET timezone = 'UTC' SET datestyle = 'ISO' SET extra_float_digits = 1 AS $$
DECLARE
    listed lifeboat.tables%ROWTYPE;
    content jsonb;
    place text;
    bytes integer := 0;
    number integer := 0;
    found jsonb[] := '{}';
BEGIN
    SELECT * INTO STRICT listed FROM lifeboat.tables WHERE name = wanted_table;
    FOR content IN EXECUTE format('SELECT to_jsonb(t) FROM %I AS t WHERE $1 IS NULL OR %s ORDER BY %s LIMIT $2',
        wanted_table, listed.key_after, listed.key_order) USING after_key::jsonb, most
    LOOP
        bytes := bytes + octet_length(content::text);
        EXIT WHEN number > 0 AND bytes > most_bytes;
        number := number + 1;
        place := lifeboat.key_of(content, listed.key_columns);
        found := found || jsonb_build_object('key', place, 'version', content -> 'version', 'row', content - 'version');
    END LOOP;
    RETURN jsonb_build_object('rows', to_jsonb(found), 'next', CASE WHEN number > 0 THEN place END);
END
$$;

-- The oldest entries of the outbox after an id, as many as fit; an entry too large for an answer comes without its row.
CREATE FUNCTION lifeboat.pending(after_id bigint, most integer, most_bytes integer) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    entry lifeboat.outbox%ROWTYPE;
    size integer;
    bytes integer := 0;
    found jsonb[] := '{}';
BEGIN
    FOR entry IN SELECT * FROM lifeboat.outbox WHERE id > after_id ORDER BY id LIMIT most LOOP
        size := coalesce(octet_length(entry.content::text), 0);
        IF size > most_bytes THEN
            found := found || jsonb_build_object('id', entry.id, 'table', entry.table_name, 'key', entry.key,
                'version', entry.version, 'bytes', size);
            CONTINUE;
        END IF;
        bytes := bytes + size;
        EXIT WHEN bytes > most_bytes;
        found := found || jsonb_build_object('id', entry.id, 'table', entry.table_name, 'key', entry.key,
            'version', entry.version, 'row', entry.content);
    END LOOP;
    RETURN to_jsonb(found);
END
$$;

-- Move an entry of the outbox to where people find it.
CREATE FUNCTION lifeboat.park(parked_id bigint, why text) RETURNS void LANGUAGE sql VOLATILE AS $$
    WITH moved AS (DELETE FROM lifeboat.outbox WHERE id = parked_id RETURNING *)
    INSERT INTO lifeboat.parked (table_name, key, version, content, reason)
    SELECT table_name, key, version, content, why FROM moved
    ON CONFLICT (table_name, key, version) DO UPDATE SET reason = excluded.reason
$$;

-- A local write for programs that hold a row as JSON: insert or update it whole. Returns its version.
CREATE FUNCTION lifeboat.put(wanted_table text, content jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    listed lifeboat.tables%ROWTYPE;
    columns text;
    changes text;
    written bigint;
BEGIN
    SELECT * INTO STRICT listed FROM lifeboat.tables WHERE name = wanted_table;
    SELECT string_agg(format('%I', attname), ', '), string_agg(format('%1$I = excluded.%1$I', attname), ', ')
    INTO columns, changes
    FROM pg_attribute
    WHERE attrelid = wanted_table::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    EXECUTE format(
        'INSERT INTO %1$I AS t (%2$s) SELECT %2$s FROM jsonb_populate_record(NULL::%1$I, $1)'
        ' ON CONFLICT (%3$s) DO UPDATE SET %4$s RETURNING t.version',
        wanted_table, columns, (SELECT string_agg(format('%I', n), ', ') FROM unnest(listed.key_columns) AS n), changes
    ) INTO written USING content || '{"version": 0}';
    RETURN written;
END
$$;

-- A local delete by key. Returns the version that the row is buried at, null if there was none.
CREATE FUNCTION lifeboat.remove(wanted_table text, wanted_key text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    touched integer;
BEGIN
    EXECUTE format('DELETE FROM %I AS t WHERE %s', wanted_table,
        (SELECT key_match FROM lifeboat.tables WHERE name = wanted_table)) USING wanted_key::jsonb;
    GET DIAGNOSTICS touched = ROW_COUNT;
    RETURN CASE WHEN touched > 0 THEN lifeboat.buried(wanted_table, wanted_key) END;
END
$$;
