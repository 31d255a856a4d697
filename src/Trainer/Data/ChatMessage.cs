namespace Z1Coder.Trainer.Data;

/// <summary>One turn of a conversation.</summary>
/// <param name="Role">system, user, assistant or tool.</param>
/// <param name="Content">The text of the turn, as the record has it.</param>
public sealed record ChatMessage(string Role, string Content)
{
    /// <summary>True for the turns that a model is trained to write.</summary>
    public bool IsAssistant => Role == "assistant";
}
