-- The offline side, written apart from the online one: nothing but arrivals.parquet and online/ takes part.
-- Run it in the folder that holds them, with DuckDB's own program or any of its clients:  duckdb < offline.sql
--
-- A window [⌊(q−W)/h⌋·h, q) moves its left edge in hops: one day by 1 h, seven by 6 h, thirty by 1 d. All moments are ms UTC.

-- What arrived, seen from both entities. A copy counts where it arrived first.
CREATE TEMP TABLE deliveries AS
SELECT unnest(['customer', 'terminal']) AS kind, unnest([customer, terminal]) AS entity, * EXCLUDE (customer, terminal)
FROM 'arrivals.parquet';

CREATE TEMP TABLE facts AS
SELECT kind, entity, transaction, any_value(occurred_at) AS occurred_at, any_value(amount) AS amount, any_value(fraud) AS fraud,
       min(arrival) AS arrival
FROM deliveries GROUP BY kind, entity, transaction;

-- An entity is asked at the end of every hour in which an event of it occurred or arrived.
CREATE TEMP TABLE questions AS
SELECT kind, entity, (occurred_at // 3600000 + 1) * 3600000 AS q FROM facts
UNION
SELECT kind, entity, (arrival + 3599999) // 3600000 * 3600000 FROM deliveries;

CREATE TEMP TABLE sums AS
SELECT kind, entity, q,
       count(*) FILTER (day) AS n_1d, sum(amount) FILTER (day) AS sum_1d,
       max(amount) FILTER (day) AS max_1d, sum(fraud) FILTER (day) AS bad_1d,
       count(*) FILTER (week) AS n_7d, sum(amount) FILTER (week) AS sum_7d,
       max(amount) FILTER (week) AS max_7d, sum(fraud) FILTER (week) AS bad_7d,
       count(*) AS n_30d, sum(amount) AS sum_30d, max(amount) AS max_30d, sum(fraud) AS bad_30d
FROM (
    SELECT kind, entity, q, amount, fraud,
           occurred_at >= (q - 86400000) // 3600000 * 3600000 AS day,
           occurred_at >= (q - 604800000) // 21600000 * 21600000 AS week
    FROM questions JOIN facts USING (kind, entity)
    WHERE arrival <= q AND occurred_at < q AND occurred_at >= (q - 2592000000) // 86400000 * 86400000
)
GROUP BY kind, entity, q;

CREATE TEMP TABLE offline AS
SELECT kind, entity, q,
       coalesce(n_1d, 0)::DOUBLE AS count_1d, coalesce(n_7d, 0)::DOUBLE AS count_7d, coalesce(n_30d, 0)::DOUBLE AS count_30d,
       coalesce(sum_1d::DOUBLE / nullif(n_1d, 0), 'nan') AS mean_1d,
       coalesce(sum_7d::DOUBLE / nullif(n_7d, 0), 'nan') AS mean_7d,
       coalesce(sum_30d::DOUBLE / nullif(n_30d, 0), 'nan') AS mean_30d,
       coalesce(max_1d::DOUBLE, 'nan') AS max_1d, coalesce(max_7d::DOUBLE, 'nan') AS max_7d,
       coalesce(max_30d::DOUBLE, 'nan') AS max_30d,
       coalesce(bad_1d::DOUBLE / nullif(n_1d, 0), 'nan') AS fraud_rate_1d,
       coalesce(bad_7d::DOUBLE / nullif(n_7d, 0), 'nan') AS fraud_rate_7d,
       coalesce(bad_30d::DOUBLE / nullif(n_30d, 0), 'nan') AS fraud_rate_30d
FROM questions LEFT JOIN sums USING (kind, entity, q);

-- Every value beside its twin. A row that only one side has is a mismatch too.
COPY (
    SELECT kind, entity, q, coalesce(online.values = offline.values, false) AS equal, online.values AS online, offline.values AS offline
    FROM (SELECT kind, entity, q, struct_pack(*COLUMNS(* EXCLUDE (kind, entity, q))) AS values FROM 'online/*.parquet') AS online
    FULL JOIN (SELECT kind, entity, q, struct_pack(*COLUMNS(* EXCLUDE (kind, entity, q))) AS values FROM offline) AS offline
    USING (kind, entity, q)
    ORDER BY q, kind, entity
) TO 'comparison.parquet' (COMPRESSION zstd);

SELECT count(*) AS reads, 12 * count(*) AS compared, count(*) FILTER (NOT equal) AS mismatches FROM 'comparison.parquet';
