namespace Z1Coder.Trainer.Data;

/// <summary>One turn of a conversation.</summary>
/// <param name="Role">system, user, assistant or tool</param>
/// <param name="Content">its text</param>
public sealed record ChatMessage(string Role, string Content);
