"""What a character's entry says about itself."""

from yokai_assets.evaluation import EvaluationRecord
from yokai_assets.gallery.characters import CharacterEntry
from yokai_assets.publishing.sidecar import PublicationRecord, Rejection


def test_scores_shown_are_those_of_the_published_lora():
    """Protects the reader from the scores of a newer LoRA that was rejected beside the one that is offered."""
    of_published, of_rejected = (EvaluationRecord.model_construct(trigger=name) for name in ("old", "new"))
    rejection = Rejection.model_construct(reason="it scores 0.1 less on the same pictures")
    entry = CharacterEntry("cluster_000", "active", 20, 3, [], evaluation=of_rejected)
    assert entry.judgement is of_rejected and entry.status == "evaluated"
    entry.lora = "models/lora/cluster_000.safetensors"
    entry.publication = PublicationRecord.model_construct(evaluation=of_published, rejected=rejection)
    assert entry.judgement is of_published
    assert "a newer one was not published: it scores 0.1 less" in entry.status_text
