"""Makes Grafana's dashboards of ours, with Grafana's own typed builders: the same JSON each time."""

import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final
from urllib.parse import quote

from grafana_foundation_sdk.builders import common as looks
from grafana_foundation_sdk.builders import dashboard as parts
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, table, tempo, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models import tempo as tempo_models

from grafana.panels import Board, Choice, Levels, Link, Panel, Query
from grafana.promql import selector

TAG: Final = "nursery-chat"
METRICS: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
TRACES: Final = dashboard.DataSourceRef(type_val="tempo", uid="${traces}")
STAT_WINDOW: Final = "5m"
"""The shortest step of a stat, and so the time that its `$__rate_interval` looks back, but for a scrape's length."""
STAT_POINTS: Final = 100_000
"""So many steps would fit into a stat: hence its step is the shortest one, also where months are shown."""
ALL: Final = dashboard.VariableOption(selected=True, text="All", value="$__all")
HEIGHTS: Final = {"stat": 4, "traces": 10}
HEIGHT: Final = 8
REF_IDS: Final = "ABCDEFGH"

AnyPanel = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel


def to_json(board: Board) -> str:
    """Return the dashboard as the JSON that Grafana reads."""
    return json.dumps(build(board), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def build(board: Board) -> dashboard.Dashboard:
    """Return the dashboard as Grafana's value."""
    made = parts.Dashboard(board.title).uid(board.uid).description(board.description).tags([TAG])
    made.time("now-1h", "now").refresh("30s").tooltip(dashboard.DashboardCursorSync.CROSSHAIR).link(_siblings())
    for variable in (*_sources(), _job(), _instance(), *map(_choice, board.choices)):
        made.with_variable(variable)
    made.annotation(_starts())
    for row in board.rows:
        made.with_row(parts.Row(row.title).id(panel_id(row.title)))
        for panel in row.panels:
            made.with_panel(_panel(panel))
    return made.build()


def panel_id(title: str) -> int:
    """Return a panel's id in its dashboard: made of the title, so that a link to it lives on when others come."""
    return 1 + zlib.crc32(title.encode()) % 99_999


def explore(traceql: str) -> str:
    """Return the address of a search for traces in Grafana's Explore, at the time that the dashboard shows."""
    query = {"refId": "A", "datasource": {"type": "tempo", "uid": "${traces}"}, "queryType": "traceql"}
    shown = {"from": "${__from}", "to": "${__to}"}
    panes = {"found": {"datasource": "${traces}", "queries": [query | {"query": traceql}], "range": shown}}
    encoded = quote(json.dumps(panes, separators=(",", ":")), safe="")
    readable = re.sub(r"%24%7B([\w.]+)%7D", r"${\1}", encoded)
    return f"/explore?schemaVersion=1&panes={readable}"


def _siblings() -> parts.DashboardLink:
    link = parts.DashboardLink("nursery-chat").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG])
    return link.keep_time(True).include_vars(True)


def _sources() -> Iterable[parts.DatasourceVariable]:
    for name, label, kind in (("datasource", "Metrics", "prometheus"), ("traces", "Traces", "tempo")):
        chosen = dashboard.VariableOption(selected=True, text=kind.capitalize(), value=kind)
        yield parts.DatasourceVariable(name).label(label).type(kind).current(chosen)


def _job() -> parts.QueryVariable:
    return _found("job", "Deployment", "label_values(edge_turns_inflight, job)")


def _instance() -> parts.QueryVariable:
    return _found("instance", "Process", 'label_values(edge_turns_inflight{job=~"$job"}, instance)')


def _found(name: str, label: str, query: str) -> parts.QueryVariable:
    """Return a choice of what is found. All of it are those values: others' services are in that Prometheus, too."""
    asked: dict[str, object] = {"query": query, "refId": f"variable-{name}"}
    variable = parts.QueryVariable(name).label(label).datasource(METRICS).query(asked).current(ALL)
    variable.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True)


def _choice(choice: Choice) -> parts.CustomVariable:
    variable = parts.CustomVariable(choice.name).label(choice.label).values(",".join(choice.values)).current(ALL)
    options = [dashboard.VariableOption(selected=False, text=value, value=value) for value in choice.values]
    return variable.options([ALL, *options]).multi(True).include_all(True).all_value(".*")


def _starts() -> parts.AnnotationQuery:
    """Mark where a process began: it has a new id then, in the labels of `target_info`.

    A scrape or two that failed are no start, and no step of the time shown is so long that one is missed.
    """
    here = selector("target_info")
    mark = parts.AnnotationQuery().name("Starts").datasource(METRICS).enable(True).icon_color("blue")
    return mark.expr(f"{here} unless last_over_time({here}[10m] offset $__interval)")


def _panel(panel: Panel) -> AnyPanel:
    made = _KINDS[panel.kind](panel)
    made.id(panel_id(panel.title)).title(panel.title).description(panel.description)
    made.span(panel.width).height(HEIGHTS.get(panel.kind, HEIGHT))
    if panel.kind == "traces":
        made.with_target(_traceql(panel.traceql))
        return made.datasource(TRACES)
    made.datasource(METRICS).unit(panel.unit)
    for ref_id, query in zip(REF_IDS, panel.queries, strict=False):
        made.with_target(_promql(panel, query, ref_id))
    return made


def _stat(panel: Panel) -> stat.Panel:
    made = stat.Panel().graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.BACKGROUND)
    made.reduce_options(looks.ReduceDataOptions().calcs(["lastNotNull"])).no_value(panel.empty)
    made.interval(STAT_WINDOW).max_data_points(STAT_POINTS)
    if panel.decimals is not None:
        made.decimals(panel.decimals)
    return made.thresholds(_thresholds(panel.levels, "blue")).mappings(_mappings(panel))


def _series(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().fill_opacity(30 if panel.stacked else 8).line_width(1).axis_soft_min(0)
    made.show_points(common.VisibilityMode.AUTO).data_links([_link(link) for link in panel.links])
    made.legend(_legend()).tooltip(looks.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    if panel.stacked:
        made.stacking(looks.StackingConfig().mode(common.StackingMode.NORMAL))
    if panel.levels:
        dashed = looks.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        made.thresholds(_thresholds(panel.levels, "transparent")).thresholds_style(dashed)
    for name, colour in panel.colours.items():
        made.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=_fixed(colour))])
    return made


def _states(panel: Panel) -> statetimeline.Panel:
    made = statetimeline.Panel().show_value(common.VisibilityMode.NEVER).fill_opacity(80).line_width(0)
    return made.mappings(_mappings(panel)).legend(_legend())


def _table(_panel: Panel) -> table.Panel:
    return table.Panel().show_header(True)


_KINDS: Final[Mapping[str, Callable[[Panel], AnyPanel]]] = {
    "stat": _stat,
    "series": _series,
    "states": _states,
    "traces": _table,
}


def _promql(panel: Panel, query: Query, ref_id: str) -> prometheus.Dataquery:
    made = prometheus.Dataquery().ref_id(ref_id).expr(query.expr).legend_format(query.legend or "__auto")
    made.editor_mode(prometheus_models.QueryEditorMode.CODE).exemplar(query.exemplar).datasource(METRICS)
    if query.step:
        made.interval(query.step)
    return made.instant() if panel.kind == "stat" else made.range()


def _traceql(query: str) -> tempo.TempoQuery:
    made = tempo.TempoQuery().ref_id("A").query_type("traceql").query(query).limit(20).spss(3).filters([])
    return made.table_type(tempo_models.SearchTableType.SPANS).datasource(TRACES)


def _thresholds(levels: Levels | None, usual: str) -> parts.ThresholdsConfig:
    step = dashboard.Threshold
    steps = [step(value=None, color=usual)]
    if levels and levels.low_is_bad:
        red = [] if levels.red is None else [step(None, "red")]
        steps = [*red, step(levels.red, "orange"), step(levels.amber, _calm(usual))]
    elif levels:
        red = [] if levels.red is None else [step(levels.red, "red")]
        steps = [step(None, _calm(usual)), step(levels.amber, "orange"), *red]
    return parts.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)


def _calm(usual: str) -> str:
    return "green" if usual == "blue" else usual


def _mappings(panel: Panel) -> list[dashboard.ValueMapping]:
    result = partial(dashboard.ValueMappingResult)
    words = {
        str(value): result(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(panel.words.items())
    }
    return [dashboard.ValueMap(options=words)] if words else []


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}


def _legend() -> looks.VizLegendOptions:
    legend = looks.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
    return legend.placement(common.LegendPlacement.BOTTOM)


def _link(link: Link) -> parts.DashboardLink:
    return parts.DashboardLink(link.title).url(explore(link.traceql)).target_blank(True)
