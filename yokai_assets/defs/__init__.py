"""Everything that knows Dagster: assets, checks, jobs, sensors, schedules, resources.

An asset body loads, calls the library, returns a `MaterializeResult`; about 25 lines. How a stage *works* belongs
to its library package. Policies (owners, kinds, pools) are in `policies` and applied once, in `build`.
"""
