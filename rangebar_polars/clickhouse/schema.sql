-- Tables of the bar cache, version 1; made by schema/tables.py.

CREATE TABLE IF NOT EXISTS bars
(
    source LowCardinality(String),
    market LowCardinality(String),
    symbol LowCardinality(String),
    threshold UInt32,
    reset LowCardinality(String),
    config_id UInt64,
    segment_start Date,
    anchor_us Int64,
    unit_day Date,
    attempt UInt64,
    bar_seq UInt32 CODEC(Delta, ZSTD(1)),
    open_time_us Int64 CODEC(Delta, ZSTD(1)),
    close_time_us Int64 CODEC(Delta, ZSTD(1)),
    open Float64 CODEC(Delta, ZSTD(1)),
    high Float64 CODEC(Delta, ZSTD(1)),
    low Float64 CODEC(Delta, ZSTD(1)),
    close Float64 CODEC(Delta, ZSTD(1)),
    volume Nullable(Float64) CODEC(ZSTD(3)),
    vwap Nullable(Float64) CODEC(ZSTD(3)),
    turnover Nullable(Float64) CODEC(ZSTD(3)),
    buy_volume Nullable(Float64) CODEC(ZSTD(3)),
    sell_volume Nullable(Float64) CODEC(ZSTD(3)),
    buy_turnover Nullable(Float64) CODEC(ZSTD(3)),
    sell_turnover Nullable(Float64) CODEC(ZSTD(3)),
    buy_trade_count Nullable(Int64) CODEC(T64, ZSTD(1)),
    sell_trade_count Nullable(Int64) CODEC(T64, ZSTD(1)),
    individual_trade_count Int64 CODEC(T64, ZSTD(1)),
    agg_record_count Int64 CODEC(T64, ZSTD(1)),
    first_trade_id Nullable(Int64) CODEC(Delta, ZSTD(1)),
    last_trade_id Nullable(Int64) CODEC(Delta, ZSTD(1)),
    first_agg_trade_id Nullable(Int64) CODEC(Delta, ZSTD(1)),
    last_agg_trade_id Nullable(Int64) CODEC(Delta, ZSTD(1)),
    is_closed Bool,
    ended_by LowCardinality(String),
    duration_us Int64 CODEC(T64, ZSTD(1)),
    ofi Nullable(Float64) CODEC(ZSTD(3)),
    vwap_close_deviation Nullable(Float64) CODEC(ZSTD(3)),
    price_impact Nullable(Float64) CODEC(ZSTD(3)),
    kyle_lambda_proxy Nullable(Float64) CODEC(ZSTD(3)),
    trade_intensity Nullable(Float64) CODEC(ZSTD(3)),
    volume_per_trade Nullable(Float64) CODEC(ZSTD(3)),
    aggression_ratio Nullable(Float64) CODEC(ZSTD(3)),
    aggregation_density Nullable(Float64) CODEC(ZSTD(3)),
    turnover_imbalance Nullable(Float64) CODEC(ZSTD(3)),
    row_hash UInt64,
    close_time_ms Int64 ALIAS intDiv(close_time_us, 1000),
    written_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(unit_day)
ORDER BY (source, market, symbol, threshold, reset, config_id, segment_start, anchor_us, unit_day, attempt, bar_seq)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 1, cleanup_delay_period = 1, cleanup_delay_period_random_add = 0, min_bytes_for_wide_part = 536870912
COMMENT 'rows of attempts; `units` says which attempts are visible';

CREATE TABLE IF NOT EXISTS units
(
    source LowCardinality(String),
    market LowCardinality(String),
    symbol LowCardinality(String),
    threshold UInt32,
    reset LowCardinality(String),
    config_id UInt64,
    segment_start Date,
    anchor_us Int64,
    prevent_same_timestamp_close Bool,
    max_gap_us Nullable(Int64),
    bar_semantics UInt32,
    unit_day Date,
    generation UInt32,
    attempt UInt64,
    built_on UInt64,
    fencing UInt64,
    day_state LowCardinality(String),
    reason String,
    tick_first_id Nullable(Int64),
    tick_last_id Nullable(Int64),
    tick_rows Int64,
    tick_hash String,
    source_absent String,
    bar_first_id Nullable(Int64),
    bar_last_id Nullable(Int64),
    rows Int64,
    orphan_rows Int64,
    row_hash_sum UInt64,
    first_close_us Nullable(Int64),
    last_close_us Nullable(Int64),
    feature_groups LowCardinality(String),
    processor_state String,
    code_version LowCardinality(String),
    writer String,
    written_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (source, market, symbol, threshold, reset, config_id, segment_start, anchor_us, unit_day, generation, attempt)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 1, cleanup_delay_period = 1, cleanup_delay_period_random_add = 0
COMMENT 'log of published days, each with the state of the processor after it';

CREATE TABLE IF NOT EXISTS generations
(
    source LowCardinality(String),
    market LowCardinality(String),
    symbol LowCardinality(String),
    threshold UInt32,
    reset LowCardinality(String),
    config_id UInt64,
    segment_start Date,
    anchor_us Int64,
    generation UInt32,
    first_day Date,
    state LowCardinality(String),
    fencing UInt64,
    written_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (source, market, symbol, threshold, reset, config_id, segment_start, anchor_us, generation, state)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 1, cleanup_delay_period = 1, cleanup_delay_period_random_add = 0
COMMENT 'which rebuilds of a series are visible, and from which day';

CREATE TABLE IF NOT EXISTS leases
(
    source LowCardinality(String),
    market LowCardinality(String),
    symbol LowCardinality(String),
    threshold UInt32,
    reset LowCardinality(String),
    config_id UInt64,
    segment_start Date,
    fencing UInt64,
    holder UInt64,
    host String,
    boot_id String,
    process UInt32,
    released Bool,
    beat_us Int64
)
ENGINE = ReplacingMergeTree(beat_us)
ORDER BY (source, market, symbol, threshold, reset, config_id, segment_start, fencing, holder)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 1, cleanup_delay_period = 1, cleanup_delay_period_random_add = 0
COMMENT 'who writes a series: the highest fencing number, while it beats';

CREATE TABLE IF NOT EXISTS population_checkpoints
(
    source LowCardinality(String),
    market LowCardinality(String),
    symbol LowCardinality(String),
    threshold UInt32,
    reset LowCardinality(String),
    config_id UInt64,
    segment_start Date,
    anchor_us Int64,
    unit_day Date,
    generation UInt32,
    attempt UInt64,
    built_on UInt64,
    fencing UInt64,
    day_state LowCardinality(String),
    reason String,
    tick_first_id Nullable(Int64),
    tick_last_id Nullable(Int64),
    tick_rows Int64,
    tick_hash String,
    source_absent String,
    bar_first_id Nullable(Int64),
    bar_last_id Nullable(Int64),
    rows Int64,
    orphan_rows Int64,
    row_hash_sum UInt64,
    first_close_us Nullable(Int64),
    last_close_us Nullable(Int64),
    feature_groups LowCardinality(String),
    processor_state String,
    code_version LowCardinality(String),
    writer String,
    updated_us Int64
)
ENGINE = ReplacingMergeTree(updated_us)
ORDER BY (source, market, symbol, threshold, reset, config_id, segment_start, anchor_us)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 1, cleanup_delay_period = 1, cleanup_delay_period_random_add = 0
COMMENT 'copy of the newest unit of every series, for other programs; `units` is the truth';

CREATE TABLE IF NOT EXISTS schema_version
(
    version UInt32,
    written_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (version)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1, min_rows_to_fsync_after_merge = 1, old_parts_lifetime = 1, cleanup_delay_period = 1, cleanup_delay_period_random_add = 0
COMMENT 'versions of these tables; the highest holds';
