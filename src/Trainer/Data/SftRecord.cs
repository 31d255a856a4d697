namespace Z1Coder.Trainer.Data;

/// <summary>
/// One training example as read: a prompt with its response, or a conversation. <see cref="Messages"/> is set for a conversation, and
/// then <see cref="Prompt"/>, <see cref="Input"/> and <see cref="Response"/> are empty.
/// </summary>
/// <param name="Id">The record's own id, or file and line (JSONL) or file and index (array), so that a step's samples can be named.</param>
/// <param name="Prompt">What is asked: question, instruction or prompt.</param>
/// <param name="Input">The input that some instruction sets keep apart; usually empty.</param>
/// <param name="Response">What the model is to answer.</param>
/// <param name="Messages">The turns of a conversation, or null.</param>
public sealed record SftRecord(string Id, string Prompt, string Input, string Response, IReadOnlyList<ChatMessage>? Messages = null)
{
    /// <summary>A conversation.</summary>
    public static SftRecord Chat(string id, IReadOnlyList<ChatMessage> messages) => new(id, "", "", "", messages);

    /// <summary>
    /// The record as a conversation. A plain prompt becomes one user turn, stripped of white space at both ends as the published run
    /// does, with the input (if any) after a blank line; the response is kept to the last character.
    /// </summary>
    public IReadOnlyList<ChatMessage> ToMessages() => Messages ??
    [
        new ChatMessage("user", (Input.Length == 0 ? Prompt : Prompt.TrimEnd() + "\n\n" + Input).Trim()),
        new ChatMessage("assistant", Response),
    ];
}
