namespace Z1Coder.Trainer.Train;

/// <summary>Names of the files in a run's directory: written by the trainer, read by the report. One place, so that they cannot drift.</summary>
public static class RunFiles
{
    /// <summary>The recipe with every default filled in.</summary>
    public const string Recipe = "recipe.resolved.yaml";

    /// <summary>Machine, versions, libraries, hash of the chat template.</summary>
    public const string Environment = "environment.json";

    /// <summary>Figures of the whole run.</summary>
    public const string Summary = "summary.json";

    /// <summary>Per stage: one line a step or evaluation.</summary>
    public const string Metrics = "metrics.jsonl";

    /// <summary>Per stage: what was read, dropped and truncated.</summary>
    public const string Data = "data-report.json";

    /// <summary>Per stage: the answers of the last pass@1 evaluation.</summary>
    public const string Answers = "answers.jsonl";

    /// <summary>Per stage: the trained model, a Hugging Face directory.</summary>
    public const string Model = "model";

    /// <summary>Per stage: checkpoints.</summary>
    public const string Checkpoints = "checkpoints";
}
