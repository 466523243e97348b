"""The API keeps what its OpenAPI description promises, whatever is sent."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from vizsla.project import Project
from vizsla.testing import TOY_BACKBONE, toy_images
from vizsla.web.app import create_app
from vizsla.web.door import Door

# A class that nobody added is refused with 422, though no schema can know the names.
STATUSES = {"expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "422"]}


@pytest.mark.slow
def test_any_request_gets_an_answer_that_the_description_knows(tmp_path):
    import schemathesis  # here, since it takes seconds to load and every process of the tests reads all files

    config = schemathesis.Config.from_dict({"checks": {"positive_data_acceptance": STATUSES}})
    images = toy_images(tmp_path / "toys", per_class=3)
    with Project.open(tmp_path / "project", images) as project:
        project.change(backbone=TOY_BACKBONE)
        project.add_classes(["blue", "green", "red"])
        project.scan()
        door = Door(allowed=frozenset({"testserver"}))
        schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(project, door), config=config)
        operations = [found.ok() for found in schema.exclude(path="/api/events").get_all_operations()]
        assert len(operations) >= 19  # all but the stream of events, which never ends
        for operation in operations:
            bombard(operation.as_strategy())


def bombard(cases):
    @given(cases)
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        case.call_and_validate()

    check()
