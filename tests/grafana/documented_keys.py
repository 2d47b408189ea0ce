"""The keys that other programs document, as far as we might use them: what is misspelt is not among them.

None of these programs can be had from a package registry, so each table was written down from the documentation, whose
address stands beside it. A key that is wanted and missing here: read it there first.
"""

from collections.abc import Mapping

Keys = frozenset[str]
"""Dotted paths; the items of a list share one, which ends in `[]`."""


def _keys(text: str, under: str = "") -> Keys:
    return frozenset(f"{under}{name}" for name in text.split())


# https://github.com/open-telemetry/opentelemetry-collector/blob/v0.138.0/exporter/exporterhelper/README.md
_EXPORTER_HELPER = _keys(
    "timeout sending_queue.enabled sending_queue.num_consumers sending_queue.queue_size sending_queue.storage "
    "retry_on_failure.enabled retry_on_failure.initial_interval retry_on_failure.max_interval "
    "retry_on_failure.max_elapsed_time retry_on_failure.multiplier"
)

COLLECTOR: Mapping[str, Mapping[str, Keys]] = {
    "receivers": {
        # https://github.com/open-telemetry/opentelemetry-collector/blob/v0.138.0/receiver/otlpreceiver/README.md
        "otlp": _keys("endpoint max_recv_msg_size_mib", "protocols.grpc.")
        | _keys("endpoint max_request_body_size include_metadata traces_url_path", "protocols.http."),
    },
    "processors": {
        # https://github.com/open-telemetry/opentelemetry-collector/blob/v0.138.0/processor/memorylimiterprocessor/README.md
        "memory_limiter": _keys("check_interval limit_mib spike_limit_mib limit_percentage spike_limit_percentage"),
        # https://github.com/open-telemetry/opentelemetry-collector-contrib/blob/v0.138.0/processor/tailsamplingprocessor/README.md
        "tail_sampling": _keys(
            "decision_wait num_traces expected_new_traces_per_sec decision_cache.sampled_cache_size "
            "decision_cache.non_sampled_cache_size sample_on_first_match drop_pending_traces_on_shutdown "
            "policies[].name policies[].type"
        ),
        # https://github.com/open-telemetry/opentelemetry-collector/blob/v0.138.0/processor/batchprocessor/README.md
        "batch": _keys("send_batch_size timeout send_batch_max_size metadata_keys metadata_cardinality_limit"),
    },
    "exporters": {
        # https://github.com/open-telemetry/opentelemetry-collector/blob/v0.138.0/exporter/otlpexporter/README.md
        "otlp": _keys("endpoint compression headers tls.insecure tls.ca_file tls.cert_file tls.key_file")
        | _EXPORTER_HELPER,
    },
    "extensions": {
        # https://github.com/open-telemetry/opentelemetry-collector-contrib/blob/v0.138.0/extension/healthcheckextension/README.md
        "health_check": _keys("endpoint path response_body"),
    },
}

# https://opentelemetry.io/docs/collector/internal-telemetry/
_PULLED = "telemetry.metrics.readers[].pull.exporter.prometheus."
COLLECTOR_SERVICE: Keys = _keys("telemetry.logs.level telemetry.metrics.level extensions[]") | _keys(
    "host port without_scope_info without_type_suffix without_units", _PULLED
)

# Each type of policy, in the README of tail_sampling above.
POLICIES: Mapping[str, Keys] = {
    "always_sample": frozenset(),
    "latency": _keys("threshold_ms upper_threshold_ms"),
    "numeric_attribute": _keys("key min_value max_value invert_match"),
    "probabilistic": _keys("hash_salt sampling_percentage"),
    "status_code": _keys("status_codes[]"),
    "string_attribute": _keys("key values[] enabled_regex_matching cache_max_size invert_match"),
    "ottl_condition": _keys("error_mode span[] spanevent[]"),
}
STATUS_CODES = {"OK", "ERROR", "UNSET"}

# https://github.com/open-telemetry/opentelemetry-collector-contrib/blob/v0.138.0/pkg/ottl/contexts/ottlspan/README.md
# and, for operators and arithmetic, pkg/ottl/LANGUAGE.md beside it.
OTTL_WORDS = {"name", "start_time_unix_nano", "end_time_unix_nano", "and", "or", "not"}

# https://grafana.com/docs/tempo/v2.9.x/configuration/
TEMPO: Keys = _keys(
    "stream_over_http_enabled target server.http_listen_port server.grpc_listen_port server.log_level "
    "distributor.receivers.otlp.protocols.grpc.endpoint distributor.receivers.otlp.protocols.http.endpoint "
    "ingester.max_block_duration ingester.max_block_bytes compactor.compaction.block_retention "
    "storage.trace.backend storage.trace.wal.path storage.trace.local.path usage_report.reporting_enabled"
)

# https://docs.postgrest.org/en/v12/references/configuration.html , and libpq's own, which an empty PGRST_DB_URI leaves
# the rest to: https://www.postgresql.org/docs/15/libpq-envars.html
POSTGREST: Keys = _keys(
    "DB_URI DB_SCHEMAS DB_ANON_ROLE DB_POOL DB_POOL_ACQUISITION_TIMEOUT DB_MAX_ROWS JWT_SECRET JWT_AUD SERVER_HOST "
    "SERVER_PORT ADMIN_SERVER_PORT LOG_LEVEL",
    "PGRST_",
) | _keys("HOST PORT USER DATABASE PASSWORD OPTIONS", "PG")

# https://grafana.com/docs/grafana/v11.6/setup-grafana/configure-grafana/ : GF_<SECTION>_<KEY>
GRAFANA_SETTINGS: Keys = _keys(
    "SECURITY_ADMIN_USER SECURITY_ADMIN_PASSWORD AUTH_ANONYMOUS_ENABLED AUTH_ANONYMOUS_ORG_ROLE USERS_VIEWERS_CAN_EDIT "
    "ANALYTICS_REPORTING_ENABLED ANALYTICS_CHECK_FOR_UPDATES SERVER_ROOT_URL",
    "GF_",
)

# https://grafana.com/docs/grafana/v11.6/administration/provisioning/
_DATA_SOURCE = _keys("name type uid access orgId url user database basicAuth isDefault version editable")
# https://grafana.com/docs/grafana/v11.6/datasources/tempo/configure-tempo-data-source/#provision-the-data-source and
# https://grafana.com/docs/grafana/v11.6/datasources/jaeger/#provision-the-data-source
_TRACE_TO_METRICS = _keys(
    "datasourceUid spanStartTimeShift spanEndTimeShift tags[].key tags[].value queries[].name queries[].query",
    "jsonData.tracesToMetrics.",
)
DATA_SOURCES: Mapping[str, Keys] = {
    # https://grafana.com/docs/grafana/v11.6/datasources/prometheus/configure-prometheus-data-source/
    "prometheus": _DATA_SOURCE
    | _keys("httpMethod timeInterval manageAlerts prometheusType prometheusVersion cacheLevel", "jsonData.")
    | _keys("name datasourceUid url urlDisplayLabel", "jsonData.exemplarTraceIdDestinations[]."),
    "tempo": _DATA_SOURCE
    | _TRACE_TO_METRICS
    | _keys("jsonData.nodeGraph.enabled jsonData.search.hide jsonData.serviceMap.datasourceUid"),
    "jaeger": _DATA_SOURCE | _TRACE_TO_METRICS | _keys("jsonData.nodeGraph.enabled"),
}
DASHBOARD_PROVIDER: Keys = _keys(
    "name orgId folder folderUid type disableDeletion updateIntervalSeconds allowUiUpdates options.path "
    "options.foldersFromFilesStructure"
)
