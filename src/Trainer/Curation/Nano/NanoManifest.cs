namespace Z1Coder.Trainer.Curation.Nano;

/// <summary>What <see cref="NanoCorpus.Write"/> wrote.</summary>
/// <param name="Options">What it was made from.</param>
/// <param name="Files">The files in the order of writing; manifest.json itself is not among them.</param>
/// <param name="Stage1">Stage 1 against the benchmark.</param>
/// <param name="Stage2">Stage 2 against the benchmark.</param>
public sealed record NanoManifest(
    NanoOptions Options, IReadOnlyList<NanoFile> Files, NanoDecontamination Stage1, NanoDecontamination Stage2);
