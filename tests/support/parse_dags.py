"""Parse dags/ as a machine without torch would, and print the serialized Dags as JSON."""

from __future__ import annotations

import json
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

ABSENT = {"torch", "torchvision", "ultralytics", "cv2", "sklearn", "PIL"}


class NotInstalled(MetaPathFinder):
    """Prevents the import of packages that only a training worker has."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:
        """Refuse the packages in ABSENT, and leave all others to the next finder."""
        if fullname.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r} (as on a machine that does not train)")


def main() -> None:
    sys.meta_path.insert(0, NotInstalled())
    from airflow.dag_processing.dagbag import DagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = DagBag(dag_folder=str(Path(__file__).parents[2] / "dags"))
    dags = {dag_id: DagSerialization.to_dict(dag) for dag_id, dag in sorted(bag.dags.items())}
    print(json.dumps({"errors": bag.import_errors, "dags": dags}, sort_keys=True, default=str))


if __name__ == "__main__":
    main()
