using System.Text;
using System.Text.Json;

namespace Z1Coder.Perf;

/// <summary>What the loopback teacher sends back, or does instead.</summary>
/// <param name="Status">HTTP status</param>
/// <param name="Body">bytes of the body</param>
/// <param name="ContentType">of the body</param>
/// <param name="Headers">whole further header lines, each with its line break</param>
/// <param name="DelayMilliseconds">wait before the first byte</param>
/// <param name="KeptBytes">bytes of the whole reply that are sent before the connection is cut; null sends all and keeps the
/// connection</param>
public sealed record LoopbackReply(
    int Status, byte[] Body, string ContentType = "application/json", string Headers = "", int DelayMilliseconds = 0, int? KeptBytes = null)
{
    /// <summary>A good answer, readable as chat completion and as completion.</summary>
    public static LoopbackReply Answer(string text, string finishReason = "stop", int promptTokens = 10, int completionTokens = 20)
    {
        var quoted = JsonSerializer.Serialize(text, LoopbackJson.Default.String);
        return new LoopbackReply(200, Encoding.UTF8.GetBytes(
            $"{{\"id\":\"x\",\"object\":\"chat.completion\",\"choices\":[{{\"index\":0,\"text\":{quoted},"
            + $"\"message\":{{\"role\":\"assistant\",\"content\":{quoted}}},"
            + $"\"finish_reason\":\"{finishReason}\"}}],"
            + $"\"usage\":{{\"prompt_tokens\":{promptTokens},\"completion_tokens\":{completionTokens}}}}}"));
    }

    /// <summary>An error as OpenAI words it.</summary>
    public static LoopbackReply Error(int status, string message, string code = "error", string headers = "") =>
        new(status, Encoding.UTF8.GetBytes($"{{\"error\":{{\"message\":\"{message}\",\"code\":\"{code}\"}}}}"), Headers: headers);
}
