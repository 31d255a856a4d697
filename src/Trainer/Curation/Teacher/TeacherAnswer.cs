namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>What the teacher wrote.</summary>
/// <param name="Text">The answer; reasoning that the server keeps apart stands first, between think tags.</param>
/// <param name="FinishReason">"stop" when the model ended by itself, "length" when it was cut; empty where the server does not say.</param>
/// <param name="PromptTokens">Tokens read; 0 where the server does not say.</param>
/// <param name="CompletionTokens">Tokens written; 0 where the server does not say.</param>
public sealed record TeacherAnswer(string Text, string FinishReason, int PromptTokens, int CompletionTokens)
{
    /// <summary>Cut at the length limit: the reasoning has no end.</summary>
    public bool IsCut => FinishReason == "length";
}
