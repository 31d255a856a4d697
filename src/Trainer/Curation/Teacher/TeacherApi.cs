namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>Which endpoint of the server is asked.</summary>
public enum TeacherApi
{
    /// <summary>/chat/completions: turns; the server applies the model's chat template.</summary>
    Chat,

    /// <summary>/completions: one text, continued as it stands. What the published run did with QwQ-32B-Preview.</summary>
    Completions,
}
