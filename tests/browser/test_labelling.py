"""A person at the page: keys, saving, undo, two at once, whatever breaks meanwhile."""

import re
import time

import pytest

from vizsla.project import Project

CLASSES = ["--classes", "blue,green,red"]


def project_of(tmp_path):
    return Project.open(tmp_path / "project")


def labelled(tmp_path):
    """Image id → class, as the database has it."""
    with project_of(tmp_path) as project:
        return {label.image_id: label.label for label in project.store.labels() if label.status == "labelled"}


def test_a_folder_becomes_a_page_with_its_first_image_and_nothing_to_set_up(serve, sit_down, breeds):
    server = serve(breeds)
    desk = sit_down(server.url)
    assert desk.painted() > 0
    assert [desk.see(f"class-{n}").inner_text().split()[-1] for n in range(3)] != []
    assert "blue" in desk.see("class-0").inner_text()
    assert not desk.errors


def test_thirty_labels_by_keyboard_alone_are_exactly_what_the_database_has(serve, sit_down, photos, tmp_path):
    desk = sit_down(serve(photos, *CLASSES).url)
    given = {}
    for n in range(30):
        key = n % 3
        before, _ = desk.press(str(key + 1))
        given[before] = ("blue", "green", "red")[key]
    desk.wait_for_number("saved", 30)
    assert labelled(tmp_path) == given
    assert len(given) == 30


def test_the_next_image_is_fetched_before_the_answer_to_this_one(serve, sit_down, breeds):
    desk = sit_down(serve(breeds, "--no-trainer").url)
    link = desk.context.new_cdp_session(desk.page)
    link.send("Network.enable")
    link.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 200, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    late = 0
    for n in range(40):
        desk.painted()
        desk.page.wait_for_timeout(60)  # nobody answers sooner
        before = set(desk.requests)
        desk.press(str(n % 3 + 1))
        late += desk.page.get_by_test_id("image").evaluate("image => image.src") not in before
    assert late == 0


def test_saved_rises_with_the_acknowledgement_only_and_a_500_loses_and_doubles_nothing(
    serve, sit_down, photos, tmp_path
):
    desk = sit_down(serve(photos, *CLASSES).url)
    desk.press("1")
    desk.wait_for_number("saved", 1)
    desk.page.route("**/api/labels*", lambda route: route.fulfill(status=500, body="{}"))
    desk.page.route("**/api/labels/batch", lambda route: route.fulfill(status=500, body="{}"))
    for key in "123":
        desk.press(key)
    desk.wait_for_number("waiting", 3)
    assert desk.number("saved") == 1
    assert len(labelled(tmp_path)) == 1
    desk.page.unroute_all()
    desk.wait_for_number("saved", 4)
    assert len(labelled(tmp_path)) == 4
    with project_of(tmp_path) as project:
        assert len(project.store.history()) == 4


def test_answers_given_offline_survive_a_reload(serve, sit_down, photos, tmp_path):
    desk = sit_down(serve(photos, *CLASSES).url)
    desk.painted()
    desk.page.route("**/api/labels*", lambda route: route.abort())
    desk.page.route("**/api/labels/batch", lambda route: route.abort())
    for key in "12":
        desk.press(key)
    desk.wait_for_number("waiting", 2)
    desk.page.reload()
    desk.wait_for_number("waiting", 2)
    desk.page.unroute_all()
    desk.wait_for_number("saved", 2)
    assert sorted(labelled(tmp_path).values()) == ["blue", "green"]


def test_after_kill_9_and_a_reload_every_acknowledged_label_is_there_and_the_same_image_on(
    serve, sit_down, photos, tmp_path
):
    server = serve(photos, *CLASSES)
    desk = sit_down(server.url)
    for n in range(7):
        desk.press(str(n % 3 + 1))
    desk.wait_for_number("saved", 7)
    shown, acknowledged = desk.painted(), labelled(tmp_path)
    server.kill()
    desk.page.keyboard.press("1")  # this one waits in the browser
    server.restart()
    desk.page.reload()
    desk.wait_for_number("saved", 8)
    now = labelled(tmp_path)
    assert acknowledged.items() <= now.items()
    assert set(now) - set(acknowledged) == {shown}


def test_a_reload_after_kill_9_shows_the_same_image(serve, sit_down, photos):
    server = serve(photos, *CLASSES)
    desk = sit_down(server.url)
    for key in "123":
        desk.press(key)
    desk.wait_for_number("saved", 3)
    shown = desk.painted()
    server.kill()
    server.restart()
    desk.page.reload()
    assert desk.painted() == shown


def test_five_undos_go_back_across_a_new_model(serve, sit_down, photos, tmp_path, wait_until):
    desk = sit_down(serve(photos, *CLASSES).url)
    order = [desk.press(str(n % 3 + 1))[0] for n in range(8)]
    wait_until(lambda: "model" in desk.see("model").inner_text())
    order += [desk.press(str(n % 3 + 1))[0] for n in range(2)]
    desk.wait_for_number("saved", 10)
    for image_id in reversed(order[-5:]):
        before = desk.painted()
        desk.page.keyboard.press("Backspace")
        assert desk.next_after(before) == image_id
    desk.wait_for_number("saved", 5)
    assert set(labelled(tmp_path)) == set(order[:5])
    desk.page.keyboard.press("Control+Shift+Z")
    desk.wait_for_number("saved", 6)
    assert set(labelled(tmp_path)) == set(order[:6])


def test_a_new_model_is_due_at_the_threshold(serve, sit_down, breeds, wait_until):
    desk = sit_down(serve(breeds).url)
    desk.painted()
    wait_until(lambda: "more" in desk.see("training").inner_text(), 60)
    for n in range(5):
        desk.press(str(n % 3 + 1))
    wait_until(lambda: "model 1 " in desk.see("model").inner_text() + " ")
    assert "5 labels" in desk.see("model").inner_text()
    few = re.compile(
        r"too few random checks yet \([1-5] of 10\)"
    )  # those that were asked before there was an order
    wait_until(lambda: few.search(desk.see("model").inner_text()))
    for n in range(10):
        desk.press(str(n % 3 + 1))
    wait_until(lambda: "model 2 " in desk.see("model").inner_text() + " ")


def test_a_hot_swap_keeps_the_visible_image_and_repeats_none(serve, sit_down, breeds, tmp_path, wait_until):
    desk = sit_down(serve(breeds).url)
    seen = [desk.press(str(n % 3 + 1))[0] for n in range(5)]
    visible = desk.painted()
    desk.page.evaluate(
        """() => {
            window.changes = 0
            const image = document.querySelector('[data-testid=image]')
            new MutationObserver((all) => {
                for (const one of all)
                    if (one.type === 'childList' ? [...one.removedNodes].includes(image) : one.attributeName === 'src')
                        window.changes += 1
            }).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ['src']})
        }"""
    )
    wait_until(lambda: "model 1 " in desk.see("model").inner_text() + " ")
    desk.page.wait_for_timeout(1500)
    assert desk.painted() == visible
    assert desk.page.evaluate("window.changes") == 0
    for n in range(30):
        seen.append(desk.press(str(n % 3 + 1))[0])
    assert len(set(seen)) == len(seen)
    desk.wait_for_number("saved", 35)
    with project_of(tmp_path) as project:
        versions = {label.model_version or 0 for label in project.store.labels()}
    assert max(versions) > 0  # the queue did follow the new models


def test_a_training_that_crashes_says_why_keeps_the_old_model_and_can_be_tried_again(
    serve, sit_down, photos, brittle, wait_until
):
    backbone, crash = brittle
    server = serve(photos, *CLASSES, "--backbone", backbone)
    desk = sit_down(server.url)
    for n in range(6):
        desk.press(str(n % 3 + 1))
    wait_until(lambda: "model 1 " in desk.see("model").inner_text() + " ")
    crash.touch()
    (photos / "new.png").write_bytes((photos / "000-blue.png").read_bytes() + b" ")
    desk.page.evaluate("fetch('/api/rescan', {method: 'POST'})")
    wait_until(lambda: "the network caught fire" in desk.see("training").inner_text())
    assert "model 1 " in desk.see("model").inner_text() + " "
    desk.press("1")
    crash.unlink()
    desk.see("retry").click()
    wait_until(lambda: "caught fire" not in desk.see("training").inner_text())
    wait_until(lambda: "model 2 " in desk.see("model").inner_text() + " ")


def test_two_browsers_share_100_labels_without_an_image_twice_and_leaving_frees_the_leases(
    serve, sit_down, breeds, tmp_path, wait_until
):
    server = serve(breeds)
    desks = [sit_down(server.url), sit_down(server.url)]
    seen = [[], []]
    for n in range(50):
        for who, desk in enumerate(desks):
            seen[who].append(desk.press(str(n % 3 + 1))[0])
    assert len(set(seen[0]) | set(seen[1])) == 100
    wait_until(lambda: len(labelled(tmp_path)) == 100)
    held = desks[1].painted()
    desks[1].context.close()
    time.sleep(7)  # those who load the page anew are given six seconds
    with project_of(tmp_path) as project:
        free = {item.image_id for item in project.store.claim(project.store.annotator("third").id, 200)}
    assert held in free


def test_nothing_is_chosen_beforehand_and_random_checks_show_no_suggestion(
    serve, sit_down, breeds, tmp_path, wait_until
):
    desk = sit_down(serve(breeds).url)
    for n in range(10):
        desk.press(str(n % 3 + 1))
    wait_until(lambda: re.search(r"model \d", desk.see("model").inner_text()))  # from five labels or all ten
    checks = suggested = 0
    for n in range(25):
        desk.painted()
        assert desk.page.evaluate(
            "document.activeElement === document.body || document.activeElement === null"
        )
        pressed = desk.page.locator(
            "[data-testid^=class-][aria-pressed=true], [data-testid^=class-][aria-checked=true]"
        )
        assert pressed.count() == 0
        bars = desk.page.locator("[data-testid^=suggestion-]").count()
        check = "random check" in desk.see("reason").inner_text()
        checks, suggested = checks + check, suggested + (bars > 0)
        if check:
            assert bars == 0
            before = desk.painted()
            desk.page.keyboard.press("Enter")
            desk.page.wait_for_timeout(100)
            assert desk.painted() == before  # there is no suggestion to accept
        desk.press(str(n % 3 + 1))
    assert checks >= 2
    assert suggested >= 10
    with project_of(tmp_path) as project:
        for label in project.store.labels():
            assert not (label.source == "audit" and label.suggestion_shown)


def test_classes_are_added_renamed_and_merged_midway_with_history_and_keys_intact(
    serve, sit_down, photos, tmp_path, wait_until
):
    desk = sit_down(serve(photos, *CLASSES).url)
    first = [desk.press(key)[0] for key in "123"]
    desk.page.evaluate(
        """async () => {
            const send = (method, path, body) => fetch(path, {method, body: JSON.stringify(body),
                headers: {'Content-Type': 'application/json'}})
            await send('POST', '/api/classes', {name: 'ultra <b>violet</b> 🟣'})
            await send('PATCH', '/api/classes/green', {name: 'emerald'})
            await send('PATCH', '/api/classes/blue', {merge_into: 'red'})
        }"""
    )
    desk.page.get_by_test_id("class-3").wait_for()
    wait_until(lambda: "emerald" in desk.see("class-1").inner_text())
    wait_until(lambda: desk.see("class-0").count() == 0)  # the key of a merged class stays free
    assert "ultra <b>violet</b> 🟣" in desk.see("class-3").inner_text()
    later = [desk.press(key)[0] for key in "234"]
    desk.wait_for_number("saved", 6)
    assert labelled(tmp_path) == dict(
        zip(first + later, ["red", "emerald", "red", "emerald", "red", "ultra <b>violet</b> 🟣"], strict=True)
    )
    with project_of(tmp_path) as project:
        as_answered = {label.image_id: label.class_id for label in project.store.labels()}
        changes = [change.change for change in project.store.class_history()]
    assert [as_answered[image_id] for image_id in first] == [1, 2, 3]
    assert changes == ["added"] * 4 + ["renamed", "merged"]


def test_a_class_added_on_the_page_is_labelled_with_its_key(serve, sit_down, photos, tmp_path):
    desk = sit_down(serve(photos).url)
    desk.painted()
    for name in ("cat", "dog"):
        desk.see("add-class-name").fill(name)
        desk.see("add-class-name").press("Enter")
        desk.page.get_by_text(name, exact=True).first.wait_for()
    desk.page.keyboard.press("Escape")
    desk.page.evaluate("document.activeElement.blur()")
    desk.press("2")
    desk.wait_for_number("saved", 1)
    assert list(labelled(tmp_path).values()) == ["dog"]


def record(project, labels, *, accuracy, kappa, chance, gain):
    """A model as a trainer would have recorded it."""
    model = project.store.start_model(labels, "logistic", "toys")
    project.store.finish_model(
        model.version,
        {
            "accuracy": {
                "value": accuracy,
                "low": accuracy - 0.05,
                "high": accuracy + 0.04,
                "checks": labels // 5,
            },
            "kappa": kappa,
            "predicted_classes": 3,
            "label_id": 0,
            "forecast": {
                "labels_for_one_point": gain,
                "low": gain and gain // 2,
                "high": gain and gain * 2,
                "chance_of_gain": chance,
                "ahead": labels // 2,
            },
        },
    )
    project.store.publish_ranking(model.version, [])


@pytest.mark.parametrize("plateau", [True, False])
def test_to_stop_is_advised_on_a_plateau_and_not_on_a_rising_curve(
    serve, sit_down, photos, tmp_path, plateau, wait_until
):
    with Project.open(tmp_path / "project", photos) as project:
        for n in range(8):
            record(
                project,
                150 + 30 * n,
                accuracy=0.93 if plateau else 0.6 + 0.04 * n,
                kappa=0.995 if plateau else 0.9,
                chance=0.02 if plateau else 0.97,
                gain=None if plateau else 30,
            )
    desk = sit_down(serve(photos, *CLASSES, "--no-trainer").url)
    desk.press("1")
    desk.wait_for_number("saved", 1)
    wait_until(lambda: desk.see("advice").count() == 1 if plateau else True)
    shown = desk.see("advice").inner_text() if desk.see("advice").count() else ""
    assert ("You can stop" in shown) is plateau
    desk.page.get_by_test_id("tab-progress").click()
    desk.page.get_by_text("more labels" if plateau else "30 more labels for +1 point").first.wait_for()
